"""`lrpilot report`: one file, from the journal alone."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import lrpilot_controller.cli as command
from lrpilot_controller.core.events import Event, Noticed
from lrpilot_controller.errors import ConfigError, NotFound
from lrpilot_controller.journal import RunKey, SqlJournal
from support.streams import Quadratic, events_of

EVIL = "</script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was rescued, and one whose words are markup."""
    directory = tmp_path_factory.mktemp("state") / "storage"
    run = Quadratic(edge=0.05)
    run.run(300)
    told: list[Event] = events_of(run)
    told.append(Noticed(run.attempt.id, 10**6, "note", 300, EVIL))
    journal = SqlJournal.open(directory / "journal.db")
    for name in ("rescued", EVIL.replace("/", "")):
        journal.append([(RunKey("demo", name), 1.0, event) for event in told])
    journal.close()
    return directory


def lrpilot(*args: str | Path) -> Result:
    return CliRunner().invoke(command.cli, [str(arg) for arg in args])


def test_it_tells_the_story_in_one_file_that_loads_nothing(storage: Path, tmp_path: Path) -> None:
    file = tmp_path / "a report.html"
    result = lrpilot("report", "rescued", "-o", file, "--storage", storage)
    assert result.exit_code == 0, result.exception
    assert f"the story of demo/rescued is in {file}" in result.output
    page = file.read_text(encoding="utf-8")
    told = page[page.index('<div id="picture"') :]
    for words in ("In short.", "rolled back and cut the LR", "What came of it.", "Cost."):
        assert words in told
    assert "Plotly.newPlot" in told
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page[:5000] + told)


def test_names_and_words_of_a_run_are_no_markup(storage: Path, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    result = lrpilot("report", EVIL.replace("/", ""), "-o", file, "--storage", storage)
    assert result.exit_code == 0, result.exception
    page = file.read_text(encoding="utf-8")
    assert "alert(1)" in page
    assert "<script>alert" not in page


def test_an_unknown_run(storage: Path, tmp_path: Path) -> None:
    result = lrpilot("report", "rescue", "-o", tmp_path / "r.html", "--storage", storage)
    assert isinstance(result.exception, NotFound)
    assert "no run 'rescue' in this journal; did you mean" in str(result.exception)
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize("where", ["none/r.html", "."])
def test_a_file_that_cannot_be_written(storage: Path, tmp_path: Path, where: str) -> None:
    result = lrpilot("report", "rescued", "-o", tmp_path / where, "--storage", storage)
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith(f"--output {tmp_path / where}: ")


def test_plotly_is_not_installed(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "plotly.offline", None)
    result = lrpilot("report", "rescued", "-o", tmp_path / "r.html", "--storage", storage)
    assert isinstance(result.exception, ConfigError)
    assert "pip install 'lrpilot[controller]'" in str(result.exception)
