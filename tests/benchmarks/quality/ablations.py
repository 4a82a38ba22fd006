"""What each part of the search earns: the real daemon with one part of it taken out.

`python tests/benchmarks/quality/ablations.py NAME serve ...` is `lrpilot serve ...` without that
part. The parts are replaced in that process alone; nothing in LRPilot knows of it.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lrpilot_controller.core.findings import Sweep
from lrpilot_controller.core.search import (
    choice,
    horizon,
    ladder,
    range_test,
    response,
    search,
    standings,
)
from lrpilot_controller.core.search.job import Family, Prober
from lrpilot_controller.core.search.range_test import RangeTest
from lrpilot_controller.core.search.reference import Reference

SHORT_PROGRAM = 16  # steps


def _put(where: Any, name: str, part: Any) -> None:
    """Replaces a part that must be there: what was renamed would be taken out in name only."""
    if not hasattr(where, name):
        raise AttributeError(f"{where} has no {name}: the search changed, its ablation must too")
    setattr(where, name, part)


def _without_response() -> None:
    def base(prober: Prober, seen: Reference) -> Any:
        return prober.within(prober.job.base_lr)
        yield  # a generator, like what it stands for

    _put(response, "respond", base)


def _without_range_test() -> None:
    def nothing(prober: Prober, seen: Reference, start: float) -> Any:
        return RangeTest(Sweep((), ()), seen.level, start, start, start)
        yield

    _put(range_test, "run", nothing)


def _without_ladder() -> None:
    _put(ladder, "BUDGET", 1.0)  # one program, at the LR that the range test says


def _without_parabola() -> None:
    _put(choice, "vertex", lambda tried, winner: winner)


def _without_correction() -> None:
    _put(horizon, "SAFETY", dict.fromkeys(Family, 1.0))
    _put(horizon, "EXPONENT", 0.0)


def _without_winners_state() -> None:
    whole = search._found

    def from_the_start(*arguments: Any) -> search.Found:
        return replace(whole(*arguments), live=False, kept=False)

    _put(search, "_found", from_the_start)


def _without_edge() -> None:
    _put(choice, "BELOW_EDGE", 1.0)


def _without_clear_wins() -> None:
    _put(standings, "CLEARLY", 0.0)  # the lowest score leads, however small its lead


def _without_longer_programs() -> None:
    _put(ladder, "SIGNAL", float("-inf"))


def _short_programs() -> None:
    _put(horizon, "SHORTEST", SHORT_PROGRAM)
    _put(horizon, "LONGEST", SHORT_PROGRAM)


def _decay_from_the_start() -> None:
    _put(horizon, "CONSTANT_SHARE", 0.0)


def _constant_to_the_end() -> None:
    _put(horizon, "CONSTANT_SHARE", 1.0)


ABLATIONS: dict[str, Callable[[], None]] = {
    "no-response": _without_response,
    "no-range-test": _without_range_test,
    "no-ladder": _without_ladder,
    "no-parabola": _without_parabola,
    "no-correction": _without_correction,
    "no-edge": _without_edge,
    "no-clear-wins": _without_clear_wins,
    "no-longer-programs": _without_longer_programs,
    "no-winners-state": _without_winners_state,
    "short-programs": _short_programs,
    "decay-from-start": _decay_from_the_start,
    "constant-to-end": _constant_to_the_end,
}


if __name__ == "__main__":
    from lrpilot_controller.cli import main

    name = sys.argv.pop(1)
    ABLATIONS[name]()
    main()
