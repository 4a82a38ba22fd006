"""What Lightning shows and counts while a search is under way."""

from collections.abc import Callable, Iterable
from typing import Any


class BarText:
    """A text on a progress bar, whichever it is: both of Lightning's ask `get_metrics`.

    Args:
        bar: the progress bar; None where there is none.
        text: what to show now; nothing where it is empty.
    """

    def __init__(self, bar: Any, text: Callable[[], str]) -> None:
        self._bar = bar
        if bar is None:
            return
        self._before = vars(bar).get("get_metrics")
        ask = bar.get_metrics

        def get_metrics(*args: Any, **keywords: Any) -> Any:
            shown = text()
            items = ask(*args, **keywords)
            return {**items, "search": shown} if shown else items

        bar.get_metrics = get_metrics

    def remove(self) -> None:
        """Leave the bar as it was."""
        bar, self._bar = self._bar, None
        if bar is None:
            return
        del bar.get_metrics
        if self._before is not None:
            bar.get_metrics = self._before


class Patience:
    """Keeps EarlyStopping from counting a search's validations: the run itself stands still.

    Args:
        stoppers: the trainer's.
    """

    def __init__(self, stoppers: Iterable[Any]) -> None:
        self._stoppers = list(stoppers)
        # What each had counted, and what it was set to.
        self._counts: dict[Any, tuple[int, int | None]] = {}

    def hold(self) -> None:
        """See that the next check counts nothing; called again as often as one likes."""
        for one in self._stoppers:
            count, held = self._counts.get(one, (0, None))
            if one.wait_count != held:  # it looked since, and may have begun anew
                count = one.wait_count
            one.wait_count = count - 1
            self._counts[one] = (count, one.wait_count)

    def release(self) -> None:
        """From here on everything counts."""
        for one, (count, held) in self._counts.items():
            if one.wait_count == held:
                one.wait_count = count
        self._counts = {}
