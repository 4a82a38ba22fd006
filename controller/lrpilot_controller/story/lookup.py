"""Finds runs in a journal by what a person calls them, and tells their stories."""

import difflib

from lrpilot_controller.errors import NotFound
from lrpilot_controller.journal.base import Reader, RunKey
from lrpilot_controller.story.fold import tell
from lrpilot_controller.story.model import Story

MAX_NAME = 401  # project/name


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


def stories(journal: Reader, project: str = "") -> list[Story]:
    """The stories of all runs, of one project where it is named."""
    keys = [key for key in journal.runs() if not project or key.project == project]
    return [tell(key, journal.records(key), points=4) for key in keys]
