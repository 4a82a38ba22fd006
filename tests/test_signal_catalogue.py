"""The catalogue of signals: its pictures are of what the detectors say now, its words are true."""

import math
import re
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import signals
from benchmarks._svg import Panel, document, text, ticks
from benchmarks.detection.examples import Example, examples
from lrpilot_controller.core.model import Signal, SignalKind
from lrpilot_controller.core.settings import Reactions
from lrpilot_proto.reactions import REACTIONS

CONTROLLER = Path(__file__).parents[1] / "controller"
CATALOGUE = CONTROLLER / "SIGNALS.md"
REDRAW = "run python -m tests.benchmarks signals, and look at them"
LARGEST = 60_000  # bytes

KINDS = tuple(kind.value for kind in SignalKind)


@cache
def told() -> tuple[tuple[Example, tuple[Signal, ...]], ...]:
    return tuple((one, tuple(signals.signals_of(one))) for one in examples())


def entry(kind: str) -> str:
    """What the catalogue says under a signal's name."""
    page = CATALOGUE.read_text(encoding="utf-8")
    found = re.search(rf"^## {kind}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"no section {kind}"
    return found[1]


def rows(page: Path) -> dict[str, str]:
    """The rows of a page's table of signals, by kind."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return {kind: line for kind in KINDS for line in lines if line.startswith(f"| [{kind}](")}


# -- the pictures


def test_the_pictures_that_are_kept_are_the_ones_that_are_drawn() -> None:
    drawn = {f"{one.name}.svg": signals.draw(one, seen) for one, seen in told()}
    kept = {path.name: path.read_text(encoding="utf-8") for path in signals.FOLDER.iterdir()}
    assert drawn.keys() == kept.keys(), REDRAW
    assert [name for name in drawn if drawn[name] != kept[name]] == [], REDRAW


@pytest.mark.parametrize("path", sorted(signals.FOLDER.glob("*.svg")), ids=lambda path: path.stem)
def test_a_picture_is_small_and_names_its_signal(path: Path) -> None:
    words = [part.text for part in ElementTree.parse(path).iter() if part.tag.endswith("text")]
    kind = next(one.kind for one, _ in told() if one.name == path.stem)
    assert words[0] == kind
    assert path.stat().st_size < LARGEST


def test_every_signal_has_a_picture() -> None:
    assert {one.kind for one, _ in told()} == set(SignalKind)


def test_a_stretch_in_which_the_signal_is_not_raised_is_not_drawn() -> None:
    one, seen = next((one, seen) for one, seen in told() if one.kind is SignalKind.PLATEAU)
    before = min(s.step for s in seen if s.kind is SignalKind.PLATEAU) - 1
    with pytest.raises(ValueError, match="plateau: no plateau"):
        signals.draw(replace(one, last=before), seen)


def test_losses_above_the_frame_lie_on_its_edge() -> None:
    panel = Panel(left=0, right=100, top=10, bottom=60, first=0, last=10, low=0, high=5)
    assert panel.at([(0, 0), (5, 2.5), (10, 1e9)]) == [(0, 60), (50, 35), (100, 10)]


def test_words_cannot_break_a_picture() -> None:
    drawn = ElementTree.fromstring(document(10, 10, [text(0, 0, "a < b & c")]))
    assert [part.text for part in drawn if part.tag.endswith("text")] == ["a < b & c"]


@given(low=st.floats(-1e6, 1e6), size=st.floats(1e-3, 1e6), about=st.integers(2, 10))
def test_ticks_are_a_few_evenly_spaced_numbers_within_the_range(
    low: float, size: float, about: int
) -> None:
    found = ticks(low, low + size, about)
    rounding = 1e-9 * (abs(low) + size)
    assert all(low - rounding <= tick <= low + size + rounding for tick in found)
    assert about / 3 - 1 <= len(found) <= about + 1
    gaps = [b - a for a, b in pairwise(found)]
    assert all(math.isclose(gap, gaps[0], rel_tol=1e-6, abs_tol=2 * rounding) for gap in gaps)


# -- the words


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_shows_its_picture_and_says_what_follows(kind: str) -> None:
    names = [one.name for one, _ in told() if one.kind == kind]
    assert [name for name in names if f"](signals/{name}.svg)" not in entry(kind)] == []
    parts = ("**What LRPilot does.**", "**Tuning.**", "**Evidence.**")
    assert [part for part in parts if part not in entry(kind)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_explains_all_evidence_that_the_detectors_give(kind: str) -> None:
    given = {name for _, seen in told() for s in seen if s.kind == kind for name in s.evidence}
    explained = entry(kind).split("**Evidence.**")[1]
    assert [name for name in sorted(given) if f"`{name}`" not in explained] == []


@pytest.mark.parametrize("page", [CATALOGUE, CONTROLLER / "README.md"], ids=lambda p: p.name)
def test_the_tables_name_what_follows_by_default(page: Path) -> None:
    defaults = Reactions()
    there = rows(page)
    assert set(there) == set(KINDS)
    assert [k for k in KINDS if f"`{defaults.of(SignalKind(k))}`" not in there[k]] == []


def test_the_catalogue_names_every_word_that_is_allowed() -> None:
    there = rows(CATALOGUE)
    missing = [(k, w) for k, words in REACTIONS.items() for w in words if f"`{w}`" not in there[k]]
    assert missing == []
