"""The validation loss among the metrics that a framework collects."""

import difflib
import logging
from collections.abc import Mapping
from typing import Any

log = logging.getLogger("lrpilot")


class Monitor:
    """Looks a validation loss up by its name; a missing one is told once and never stops a run.

    Args:
        name: what the user calls it; None: `usual`, and nothing is told where that is missing.
        usual: its name where the user gave none.
    """

    def __init__(self, name: str | None, usual: str) -> None:
        self._name = name
        self._usual = usual
        self._told = False

    def read(self, metrics: Mapping[str, Any], *, tell: bool = True) -> Any:
        """Its value; None where it is not among the metrics, which is told if `tell`."""
        name = self._name or self._usual
        if name in metrics:
            return metrics[name]
        if tell and self._name is not None and not self._told:
            self._told = True
            near = difflib.get_close_matches(name, metrics)
            log.warning(
                "LRPilot: monitor=%r is not logged%s; logged are %s. Training goes on without it",
                name,
                f" (did you mean {near[0]!r}?)" if near else "",
                ", ".join(sorted(metrics)) or "no metrics",
            )
        return None
