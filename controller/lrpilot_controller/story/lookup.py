"""Finds runs in a journal by what a person calls them, and tells their stories."""

import difflib
from collections.abc import Sequence

from lrpilot_controller.core.telemetry import Samples, Thinned
from lrpilot_controller.errors import NotFound
from lrpilot_controller.journal.base import Reader, Record, RunKey
from lrpilot_controller.story.fold import OUTLINE, tell
from lrpilot_controller.story.model import Story, Summary

MAX_NAME = 401  # project/name
NEWEST = 4  # records of telemetry: some of them may hold validations only


def find_run(journal: Reader, text: str) -> RunKey:
    """The run that `project/name`, or a unique `name`, means.

    Raises:
        NotFound: there is none, or the name alone is in several projects.
    """
    if len(text) > MAX_NAME:
        raise NotFound(
            f"no run is called {text[:80]!r}...: a name has {MAX_NAME} characters at most"
        )
    runs = journal.runs()
    found = [key for key in runs if text in (str(key), key.name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise NotFound(f"run {text!r} is in several projects: {', '.join(map(str, found))}")
    near = difflib.get_close_matches(text, [str(key) for key in runs] + [k.name for k in runs])
    hint = f"; did you mean {', '.join(near)}?" if near else "; `lrpilot runs` lists all"
    raise NotFound(f"no run {text!r} in this journal{hint}")


def story_of(journal: Reader, text: str) -> Story:
    """The story of the run that `text` means.

    Raises:
        NotFound: as `find_run`.
    """
    key = find_run(journal, text)
    return tell(key, journal.records(key))


def summaries(journal: Reader, project: str = "") -> list[Summary]:
    """What there is to say of each run in a line, of one project's where it is named.

    Reads the newest telemetry only, so that many long runs are told as soon as short ones.
    """
    told = []
    for key, records in journal.across(OUTLINE, (Samples, Thinned), NEWEST):
        if project in ("", key.project):
            if not _says_where_it_is(records):
                records = [*journal.records(key)]
            told.append(Summary.of(tell(key, records, points=4)))
    return told


def _says_where_it_is(records: Sequence[Record]) -> bool:
    """Whether there is a train loss in what was read, if there was any telemetry."""
    parts = [r.event for r in records if isinstance(r.event, Samples | Thinned)]
    columns = [
        part.validation if isinstance(part, Samples) else part.rows.validation for part in parts
    ]
    return len(parts) < NEWEST or any(not all(column) for column in columns)
