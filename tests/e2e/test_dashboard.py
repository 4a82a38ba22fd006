"""`lrpilot review` and `lrpilot report` in a real browser, of runs that really happened.

`KEEP_SCREENSHOTS=1` writes what the README shows into examples/.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lrpilot_controller.core.events import Commanded
from lrpilot_controller.journal import RunKey, SqlJournal
from support import browser
from support.browser import Browser
from support.daemon import COMMAND, cli
from support.searcher import Searcher
from support.streams import Quadratic, events_of

ROOT = Path(__file__).parents[2]
TRACES = ".scatterlayer .trace"  # as Plotly draws them

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _browser() -> None:
    if why := browser.missing():
        pytest.skip(f"no browser: {why}")


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was rescued, of which somebody judged a decision, and one that searched."""
    directory = tmp_path_factory.mktemp("state") / "storage"
    rescued = Quadratic(edge=0.2)
    rescued.run(80)
    rescued.edge = 0.05  # it blows up from here on, until its LR is lower
    rescued.run(420)
    rescued.goodbye()
    searched = Searcher()
    searched.search()
    searched.go_on(200)
    searched.goodbye()
    verdict = Commanded("verdict", "ann", "a tenth would have done", decision_id=1, good=False)
    journal = SqlJournal.open(directory / "journal.db")
    for name, events in (
        ("rescued", [*events_of(rescued), verdict]),
        ("searched", events_of(searched)),
    ):
        journal.append([(RunKey("demo", name), 1e9, event) for event in events])
    journal.close()
    return directory


@pytest.fixture(scope="module")
def links(storage: Path) -> Iterator[list[str]]:
    """What `lrpilot review` of the rescued run prints, while its dashboard is there."""
    command = [*COMMAND, "review", "rescued", "--storage", str(storage), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        printed = [process.stdout.readline().strip() for _ in range(5)]
        yield printed[1:]  # the first is the dashboard itself
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def page() -> Iterator[Browser]:
    with browser.opened(1280, 1000) as opened:
        yield opened


def url_in(line: str) -> str:
    found = re.search(r"http://\S+", line)
    assert found, line
    return found[0]


def keep(page: Browser, name: str, path: Path) -> None:
    """A screenshot that is looked at: more than one colour, or there is nothing on it."""
    kept = ROOT / "examples" if os.environ.get("KEEP_SCREENSHOTS") else path
    page.photograph(kept / name)
    assert (kept / name).stat().st_size > 10_000


def test_the_first_link_is_all_of_a_run_at_one_sight_and_takes_a_verdict(
    links: list[str], page: Browser, tmp_path: Path
) -> None:
    page.open(url_in(links[0]))
    page.until(f"document.querySelectorAll('#picture {TRACES}').length >= 5")
    page.sees("In short. LRPilot saw")
    page.sees("rolled back, LR 0.1 to 0.0333")
    keep(page, "review-run.png", tmp_path)
    page.run("document.querySelector('button[value=good]').click()")
    page.until("document.querySelector('button[value=good]')?.disabled")
    page.sees("Verdict. good, says")
    page.run("[...document.links].find(a => a.innerText == 'its trial').click()")
    page.sees("Verdict. good, says")
    page.sees("What came of it.")


def test_the_page_of_a_run_in_optuna_has_its_picture_and_its_story(
    links: list[str], page: Browser, tmp_path: Path
) -> None:
    page.open(url_in(links[1]))
    page.sees("demo/rescued: finished")
    picture = "document.getElementById('user-defined-plot:run')"
    page.until(f"{picture} && {picture}.querySelectorAll('{TRACES}').length >= 5")
    page.run(f"{picture}.scrollIntoView()")
    page.sees("rolled back, LR")
    page.open(url_in(links[1]) + "/note")
    page.sees("In short. LRPilot saw")
    page.sees("Reason: divergence")


def test_the_deep_link_leads_to_the_decision_and_its_note_to_the_picture(
    links: list[str], page: Browser, tmp_path: Path
) -> None:
    [decision] = [link for link in links if " decision 1: " in link]
    page.open(url_in(decision))
    page.sees("rolled back and cut the LR")
    page.sees("What came of it.")
    assert "Trial 0 (trial_id=" in page.text()
    keep(page, "review-decision.png", tmp_path)
    page.run("[...document.links].find(a => a.innerText == 'The picture of the run').click()")
    page.until("document.getElementById('user-defined-plot:run')")


def test_a_report_opens_without_a_network(storage: Path, page: Browser, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    done = cli("report", "demo/searched", "-o", file, "--storage", storage)
    assert done.returncode == 0, done.stderr
    page.open(file.as_uri())
    page.until(f"document.querySelectorAll('#picture {TRACES}').length >= 3")
    page.sees("Search: found")
    loaded = "performance.getEntriesByType('resource').map(one => one.name).join()"
    assert page.run(loaded) == ""
    page.photograph(tmp_path / "report.png")
    assert (tmp_path / "report.png").stat().st_size > 10_000
