"""optuna-dashboard on a storage directory: its pages, its server, and links into it."""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from lrpilot_controller.errors import ConfigError, LRPilotError, NotFound
from lrpilot_controller.storage import ARTIFACTS, Storage
from lrpilot_controller.tuning import contents, pages, runpage, searches, studies
from lrpilot_controller.tuning.places import place_of

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from sqlalchemy import Engine

HOST = "127.0.0.1"
_OURSELVES = {HOST, "localhost", "::1"}
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Link:
    """A page in the dashboard: of a run, with its picture; of a decision; of a search (decision 0).

    `number` is the trial's, None for the run's own page. `value` is a decision's gain, or the final
    loss at the `lr` that a search found.
    """

    run: str
    decision: int
    action: str
    step: int
    outcome: str
    value: float | None
    study: int
    number: int | None
    lr: float | None = None

    def url(self, port: int) -> str:
        """The address of the page on a dashboard at this port."""
        return f"http://{HOST}:{port}{self.path}"

    @property
    def path(self) -> str:
        """The page on whatever dashboard has this storage."""
        page = "" if self.number is None else f"/trials?numbers={self.number}"
        return f"/dashboard/studies/{self.study}{page}"


class Review:
    """The trials of a storage, open for a dashboard. Use it as a context manager."""

    def __init__(self, storage: "BaseStorage", engine: "Engine", folder: Path) -> None:
        self._storage = storage
        self._engine = engine
        self._folder = folder

    @classmethod
    @contextmanager
    def open(cls, where: Storage | Path) -> Iterator["Review"]:
        """Opens what a daemon wrote; works beside the daemon.

        Raises:
            NotFound: There is nothing to review yet.
            TrialsUnavailable: The file cannot be used.
            ConfigError: Optuna is not installed.
        """
        place = place_of(where)
        if place.identity() is None:
            raise NotFound(
                f"nothing to review in {where}: no decision has been recorded there yet. The "
                "daemon makes its first trial when it cuts an LR, rolls a run back or stops it, or "
                "when a search ends"
            )
        with ExitStack() as owned:
            try:
                import optuna

                optuna.logging.set_verbosity(optuna.logging.WARNING)
                storage = place.open(_TIMEOUT_S, create=False)
            except ImportError as error:
                raise not_installed(error) from error
            owned.callback(storage.engine.dispose)
            owned.callback(storage.remove_session)
            folder = where if isinstance(where, Path) else where.folder
            yield cls(optuna.storages.get_storage(storage), storage.engine, folder)

    def links(self) -> list[Link]:
        """Links to each run's page, to what its searches found, and to its decisions."""
        found = []
        for study in contents.studies_in(self._engine):
            kind = studies.kind_of(study.attributes)
            if kind == searches.PROBES:
                found += _page(study)
                continue
            for trial in self._storage.get_all_trials(study.id, deepcopy=False):
                about = trial.user_attrs
                link = Link(
                    run=str(about.get("run", "")),
                    decision=int(about.get("decision_id", 0)),
                    action=str(about.get("action", "search")),
                    step=int(about.get("step", 0)),
                    outcome=str(about.get("outcome", "")),
                    value=trial.value if trial.state.name == "COMPLETE" else None,
                    study=study.id,
                    number=trial.number,
                    lr=trial.params.get("lr") if kind == searches.RUNS else None,
                )
                found.append(link)
        return sorted(found, key=lambda link: (link.run, link.number is not None, link.decision))

    def _trials(self, run: str) -> dict[int, str]:
        """The paths of the trials of a run's decisions."""
        links = [link for link in self.links() if link.run == run and link.decision]
        return {link.decision: link.path for link in links}

    def server(self, port: int, journal: runpage.Opened, judge: runpage.Judge) -> WSGIServer:
        """The dashboard, bound to loopback but not yet serving; port 0 takes a free one.

        Args:
            port: On 127.0.0.1.
            journal: Opens what the pages of runs are told from.
            judge: Is told what a person says of a decision, on the page of its run.

        Raises:
            ConfigError: The port cannot be used, or optuna-dashboard is not installed.
        """
        try:
            import optuna_dashboard
            from optuna.artifacts import FileSystemArtifactStore
        except ImportError as error:
            raise not_installed(error) from error
        artifacts = self._folder / ARTIFACTS
        artifacts.mkdir(mode=0o700, parents=True, exist_ok=True)
        app = optuna_dashboard.wsgi(
            self._storage, artifact_store=FileSystemArtifactStore(artifacts)
        )
        app = runpage.with_runs(app, journal, self._trials, judge)
        try:
            return make_server(HOST, port, _guarded(app), _Server, _Quiet)
        except OSError as error:
            raise ConfigError(
                f"--port {port}: {error.strerror or error}; choose another one, or 0 for any"
            ) from error


def _page(study: contents.Known) -> list[Link]:
    """The link to a run's own page, if there is one already."""
    about = study.attributes
    if pages.MARK not in about:
        return []
    state, steps = str(about.get("state", "")), int(about.get("steps", 0))
    return [Link(str(about["run"]), 0, "picture", steps, state, None, study.id, None)]


def pick_run(links: Iterable[Link], name: str) -> list[Link]:
    """The decisions of one run: `project/name`, or `name` where that is unique.

    Raises:
        NotFound: No decision of such a run was recorded, or several runs have that name.
    """
    links = list(links)
    runs = sorted({link.run for link in links})
    found = [run for run in runs if run == name] or [
        run for run in runs if run.partition("/")[2] == name
    ]
    if len(found) > 1:
        raise NotFound(f"several runs are called {name!r}: {', '.join(found)}; name one of them")
    if not found:
        known = ", ".join(runs[:10]) + (", ..." if len(runs) > 10 else "")
        raise NotFound(
            f"nothing was recorded of a run {name!r}; there are trials of: {known or 'no run'}"
        )
    return [link for link in links if link.run == found[0]]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # On Windows it would let a second dashboard take the port of the first.
    allow_reuse_address = os.name == "posix"

    def server_bind(self) -> None:
        # As the base classes, but without asking a name server who 127.0.0.1 is.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]
        self.setup_environ()


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass  # one line per poll of an open page


def _guarded(app: runpage.App) -> runpage.App:
    """Lets only pages of this dashboard speak to it: it has no login, and it can delete."""

    def guarded(environ: runpage.Environ, start: runpage.Start) -> Iterable[bytes]:
        origin = environ.get("HTTP_ORIGIN")
        asked = _host(f"//{environ.get('HTTP_HOST', '')}")
        if asked in _OURSELVES and (not origin or _host(origin) in _OURSELVES):
            return app(environ, start)
        start("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"This dashboard answers only as http://{HOST} or http://localhost.\n".encode()]

    return guarded


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def not_installed(error: ImportError) -> LRPilotError:
    """What to do where Optuna or its dashboard cannot be imported."""
    return ConfigError(
        f"the dashboard is not installed ({error}): pip install 'lrpilot[controller]'"
    )
