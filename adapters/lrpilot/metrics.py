"""The metrics that a user logs, by name."""

import difflib
import logging
from collections.abc import Mapping
from typing import Any

log = logging.getLogger("lrpilot")


class Logged:
    """One metric; a missing one never stops the run, and is said once.

    Args:
        keyword: of the callback, where the user may name it.
        name: what the user gave; None for nothing.
        usual: taken in its place, where it is logged.
        when: how often it is needed, for a person.
    """

    def __init__(self, keyword: str, name: str | None, usual: str, when: str = "") -> None:
        self.given = name is not None
        self._keyword, self._when = keyword, f" {when}" if when else ""
        self._name = usual if name is None else name
        self._told = False

    def value(self, metrics: Mapping[str, Any], needed: str = "", *, quiet: bool = False) -> Any:
        """Its newest value; None where it is not logged.

        Args:
            metrics: what is logged.
            needed: why it is missed, even where the user did not name it.
            quiet: whether nothing is said of a missing one, which may be logged elsewhere.
        """
        if self._name in metrics:
            return metrics[self._name]
        if (self.given or needed) and not self._told and not quiet:
            self._told = True
            near = difflib.get_close_matches(self._name, metrics)
            log.warning(
                "LRPilot: %s%s=%r is not logged%s%s; logged are %s. Training goes on without it",
                f"{needed}, and " if needed else "",
                self._keyword,
                self._name,
                self._when,
                f" (did you mean {near[0]!r}?)" if near else "",
                ", ".join(sorted(metrics)) or "no metrics",
            )
        return None
