"""A run's own page in the dashboard: its picture, its story, and what can be told in a word."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrpilot_controller.core.events import SaidGoodbye, SessionLost, SessionOpened
from lrpilot_controller.journal.base import Journal, RunKey
from lrpilot_controller.story import Story, tell
from lrpilot_controller.story.lines import notable
from lrpilot_controller.story.picture import RAW, Picture
from lrpilot_controller.tuning import shown, studies
from lrpilot_controller.tuning.account import account_of
from lrpilot_controller.tuning.cases import NEWS, is_news, read_cases
from lrpilot_controller.tuning.entries import Home
from lrpilot_controller.tuning.notes import probes_note
from lrpilot_controller.tuning.searches import probes_home

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

MARK = "page"
"""The study's attribute that says up to which record of the journal its page tells."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a reviewer of a run lands on.

    Attributes:
        home: The run's own study, which its probes are in as well.
        picture: Plotly's JSON.
        note: The story, in Markdown.
        about: The study's attributes.
    """

    home: Home
    picture: str
    note: str
    about: Mapping[str, str | int | float]


def newest_news(journal: Journal, run: RunKey) -> tuple[int, bool]:
    """The number of the newest record that changes a run's page, and whether the run has ended.

    Raises:
        JournalError: The journal cannot be read.
    """
    newest, over = 0, False
    for record in journal.records(run, kinds=NEWS):
        if isinstance(record.event, SessionOpened):
            over = False
        elif isinstance(record.event, SaidGoodbye | SessionLost):
            over = True
        elif not is_news(record):
            continue
        newest = record.n
    return newest, over


def page_of(journal: Journal, run: RunKey, mark: int) -> Page:
    """The page as the journal tells it now; reads all of the run's telemetry.

    Raises:
        JournalError: The journal cannot be read.
    """
    story = tell(run, journal.records(run), points=RAW)
    return Page(
        home=probes_home(run),
        picture=Picture(story).to_json(),
        note=f"{account_of(story, read_cases(journal, run))}\n\n{probes_note(run)}",
        about={**_about(story), MARK: mark},
    )


def _about(story: Story) -> dict[str, str | int | float]:
    """What a list of studies can be filtered by."""
    cost, loss = story.cost, story.loss
    return {
        "state": story.state.value,
        "steps": story.step,
        "signals": ", ".join(sorted({s.kind.value for s in story.signals})) or "none",
        "decisions_applied": sum(t.applied_step is not None for t in notable(story.decisions)),
        "rolled_back_steps": cost.rolled_back_steps,
        "probe_steps": cost.probe_steps,
        "wait_seconds": round(cost.wait_seconds, 3),
    } | ({} if loss is None or not math.isfinite(loss) else {"last_loss": loss})


def mark_of(storage: "BaseStorage", run: RunKey) -> int:
    """Up to which record of the journal a run's page tells; 0 where there is none."""
    try:
        study = storage.get_study_id_from_name(probes_home(run).name)
    except KeyError:
        return 0
    return int(storage.get_study_user_attrs(study).get(MARK, 0))


def show(storage: "BaseStorage", page: Page) -> None:
    """Brings a run's page up to date."""
    study = studies.open_study(storage, page.home)
    shown.draw(study, page.picture)
    shown.write(study, None, page.note)
    known = study.user_attrs
    for key, value in page.about.items():  # the mark is the last: with it all is there
        if known.get(key) != value:
            study.set_user_attr(key, value)
