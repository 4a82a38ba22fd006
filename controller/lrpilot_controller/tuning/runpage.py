"""A run at one sight, beside the dashboard: its picture, its decisions to be judged, its account.

The dashboard draws a run's picture below three plots of its own, and takes nothing about a trial
that is finished; here a person says with one click whether a decision was right.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from html import escape
from typing import Any
from urllib.parse import parse_qs, quote

from lrpilot_controller.errors import LRPilotError, NotFound
from lrpilot_controller.journal.base import Reader
from lrpilot_controller.story import Story, find_run
from lrpilot_controller.story.lines import line_of, notable
from lrpilot_controller.story.model import BAD, GOOD
from lrpilot_controller.tuning.report import page_of

Environ = dict[str, Any]
Start = Callable[..., Any]
App = Callable[[Environ, Start], Iterable[bytes]]
Opened = Callable[[], AbstractContextManager[Reader]]
Judge = Callable[[str, int, bool], object]
"""Takes a person's verdict: of which run, on which decision, and whether it was good."""
Trials = Callable[[str], Mapping[int, str]]
"""The paths of the trials of a run's decisions in the dashboard, by the decision's number."""

PREFIX = "/run/"
_MOST = 1000  # bytes of a verdict


def path_of(run: str) -> str:
    """Where the page of a run is."""
    return PREFIX + quote(run)


def with_runs(app: App, journal: Opened, trials: Trials, judge: Judge) -> App:
    """A dashboard's application with a page per run beside its own.

    Args:
        app: The dashboard.
        journal: Is opened for each page.
        trials: Where the dashboard shows a run's decisions.
        judge: Is told what a person says.
    """

    def answer(environ: Environ, start: Start) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")
        if not path.startswith(PREFIX):
            return app(environ, start)
        run = path.removeprefix(PREFIX)
        try:
            if environ["REQUEST_METHOD"] == "POST":
                judge(run, *_verdict(environ))
                start("303 See Other", [("Location", path_of(run))])
                return []
            body = _page(journal, run, trials)
        except LRPilotError as error:
            status = "404 Not Found" if isinstance(error, NotFound) else "409 Conflict"
            start(status, [("Content-Type", "text/plain; charset=utf-8")])
            return [f"{error}\n".encode()]
        start("200 OK", [("Content-Type", "text/html; charset=utf-8")])
        return [body.encode()]

    return answer


def _verdict(environ: Environ) -> tuple[int, bool]:
    """The decision's number, and whether it was good.

    Raises:
        LRPilotError: The form says something else.
    """
    length = environ.get("CONTENT_LENGTH") or "0"
    sent = environ["wsgi.input"].read(min(int(length), _MOST)) if length.isdigit() else b""
    form = parse_qs(sent.decode("utf-8", "replace"))
    number, word = form.get("decision", [""])[0], form.get("verdict", [""])[0]
    if not number.isdecimal() or word not in (GOOD, BAD):
        raise LRPilotError(
            f"a verdict is a decision's number and {GOOD} or {BAD}, not {number[:20]!r} and "
            f"{word[:20]!r}"
        )
    return int(number), word == GOOD


def _page(journal: Opened, run: str, trials: Trials) -> str:
    with journal() as reader:
        key = find_run(reader, run)
        return page_of(reader, key, lambda story: _decisions(story, trials(str(key))))


def _decisions(story: Story, trials: Mapping[int, str]) -> str:
    """A table of what was decided, each with the way to its trial and two buttons."""
    rows = []
    for told in notable(story.decisions):
        number = told.decision.id
        trial = f'<a href="{trials[number]}">its trial</a>' if number in trials else ""
        buttons = "".join(
            f'<button name="verdict" value="{word}"{" disabled" * (told.verdict == word)}>{word}'
            "</button> "
            for word in (GOOD, BAD)
        )
        rows.append(
            f"<tr><td>{number}</td><td>{escape(line_of(told))}</td><td>{trial}</td>"
            f'<td><form method="post"><input type="hidden" name="decision" value="{number}">'
            f"{buttons}</form></td></tr>"
        )
    if not rows:
        return ""
    heads = "<tr><th></th><th>decision</th><th></th><th>was it right?</th></tr>"
    return f'<table id="decisions">{heads}{"".join(rows)}</table>'
