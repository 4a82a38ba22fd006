"""`lrpilot replay RUN`: for a person and for a script."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import lrpilot_controller.cli as command
from lrpilot_controller.core.events import Decided, Event, OutcomeMeasured, Output
from lrpilot_controller.errors import ConfigError, NotFound
from lrpilot_controller.journal import RunKey, SqlJournal
from support.streams import Quadratic, events_of

Lrpilot = Callable[..., Result]
NOT_THEIRS = "the losses and the trainer's answers are still those of the recorded run"


def blown_up() -> list[Event]:
    """A run that blew up twice and was rolled back each time."""
    run = Quadratic(edge=0.02)
    run.run(250)
    return events_of(run)


def bent(events: list[Event]) -> list[Event]:
    """Its first decision as another version would have made it."""
    place = next(i for i, event in enumerate(events) if isinstance(event, Decided))
    old = events[place]
    assert isinstance(old, Decided)
    decision = replace(old.decision, factor=math.nextafter(old.decision.factor, 1))
    return [*events[:place], Decided(decision), *events[place + 1 :]]


def cut_off(events: list[Event]) -> list[Event]:
    """Without the last output."""
    last = max(i for i, event in enumerate(events) if isinstance(event, Output))
    return [*events[:last], *events[last + 1 :]]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("replay")
    journal = SqlJournal.open(path / "journal.db")
    events = blown_up()
    runs = {"good": events, "bent": bent(events), "cut-off": cut_off(events)}
    for name, told in runs.items():
        journal.append([(RunKey("demo", name), float(n), event) for n, event in enumerate(told)])
    journal.close()
    return path


@pytest.fixture
def lrpilot(storage: Path) -> Lrpilot:
    def run(*args: str | Path) -> Result:
        words = ["replay", *map(str, args), "--storage", str(storage)]
        return CliRunner().invoke(command.cli, words)

    return run


def as_json(result: Result) -> dict[str, Any]:
    found = json.loads(result.output)
    assert isinstance(found, dict)
    return found


# -- whether it is the same


def test_a_run_that_replays_to_the_byte_is_success(lrpilot: Lrpilot) -> None:
    result = lrpilot("good")
    assert result.exit_code == 0
    assert result.output.startswith("demo/good: ")
    assert "all are byte-identical when replayed" in result.output
    told = as_json(lrpilot("demo/good", "--json"))
    assert list(told) == [
        *("run", "records", "outputs", "identical", "difference", "not_recorded"),
    ]
    assert (told["run"], told["identical"], told["difference"]) == ("demo/good", True, None)
    assert told["records"] == len(blown_up())
    assert told["outputs"]["decision"] >= 2
    assert told["not_recorded"] == []


def test_a_run_of_which_nothing_is_left_to_compare_is_said_to_be_one(
    storage: Path, lrpilot: Lrpilot
) -> None:
    quiet = [event for event in blown_up()[:1] if not isinstance(event, Output)]
    journal = SqlJournal.open(storage / "journal.db")
    journal.append([(RunKey("demo", "quiet"), 0.0, event) for event in quiet])
    journal.close()
    result = lrpilot("quiet")
    assert result.exit_code == 0
    assert result.output == "demo/quiet: 1 records, 0 outputs; nothing to compare\n"


def test_a_run_that_does_not_shows_the_first_difference_and_fails(lrpilot: Lrpilot) -> None:
    result = lrpilot("bent")
    assert result.exit_code == 1
    number = next(n for n, event in enumerate(blown_up(), 1) if isinstance(event, Decided))
    _, recorded, replayed, where, _ = result.output.splitlines()
    assert recorded.startswith(f'  recorded: {{"record": {number}, "kind": "decision"')
    assert replayed.startswith(f'  replayed: {{"record": {number - 2}, "kind": "decision"')
    factor, better = 1 / 3, math.nextafter(1 / 3, 1)
    assert where == f"  decision.factor: recorded {better}, replayed {factor}"

    in_json = lrpilot("bent", "--json")
    assert in_json.exit_code == 1
    difference = as_json(in_json)["difference"]
    assert difference["recorded"]["record"] == number
    factors = [difference[side]["decision"]["factor"] for side in ("recorded", "replayed")]
    assert factors == [better, factor]


def test_an_output_that_nothing_brings_about_is_shown_too(storage: Path, lrpilot: Lrpilot) -> None:
    journal = SqlJournal.open(storage / "journal.db")
    outcome = next(event for event in blown_up() if isinstance(event, OutcomeMeasured))
    journal.append([(RunKey("demo", "alone"), 0.0, outcome)])
    journal.close()
    result = lrpilot("alone")
    assert result.exit_code == 1
    assert "replayed: nothing more" in result.output


def test_what_a_daemon_did_not_live_to_record_is_told_and_is_success(lrpilot: Lrpilot) -> None:
    result = lrpilot("cut-off")
    assert result.exit_code == 0
    assert "1 more are not recorded yet" in result.output
    told = as_json(lrpilot("cut-off", "--json"))
    assert told["identical"] is True
    assert len(told["not_recorded"]) == 1


def test_no_such_run(lrpilot: Lrpilot) -> None:
    result = lrpilot("god")
    assert isinstance(result.exception, NotFound)
    assert "did you mean" in str(result.exception)


# -- with other settings


@pytest.fixture
def other(tmp_path: Path) -> Path:
    path = tmp_path / "other.toml"
    path.write_text("[guard]\nfactor = 0.2\n")
    return path


def test_other_settings_stand_beside_what_was_recorded(
    lrpilot: Lrpilot, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = lrpilot("good", "--config", other)
    assert result.exit_code == 0
    head, titles, first, *_ = result.output.splitlines()
    assert head.startswith("demo/good: other than recorded: ")
    assert titles.split()[:3] == ["step", "recorded", "with"]
    assert "decision 1, rollback" in first
    assert "factor 0.3333" in result.output
    assert "factor 0.2" in result.output
    assert NOT_THEIRS in " ".join(result.output.split())


def test_other_settings_as_json(lrpilot: Lrpilot, other: Path) -> None:
    told = as_json(lrpilot("good", "--config", other, "--json"))
    assert told["run"] == "demo/good"
    assert NOT_THEIRS in told["note"]
    assert [row["step"] for row in told["rows"]] == sorted(row["step"] for row in told["rows"])
    assert {tuple(row) for row in told["rows"]} == {("step", "same", "recorded", "other")}
    first = next(row for row in told["rows"] if not row["same"])
    assert first["recorded"]["decision"]["factor"] == 1 / 3
    assert first["other"]["decision"]["factor"] == 0.2


def test_settings_that_change_nothing(lrpilot: Lrpilot, tmp_path: Path) -> None:
    same = tmp_path / "same.toml"
    same.write_text("[search]\nreuse = 'never'\n")
    result = lrpilot("good", "--config", same)
    assert result.exit_code == 0
    assert "other than recorded: none of" in result.output
    assert NOT_THEIRS not in result.output


def test_a_bad_configuration_is_refused(lrpilot: Lrpilot, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[guard]\nfactor = 2\n")
    result = lrpilot("good", "--config", bad)
    assert isinstance(result.exception, ConfigError)
    assert "guard.factor" in str(result.exception)
