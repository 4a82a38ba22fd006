"""The daemons that LRPilot's runs go through: one real process for each way to use it."""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import ours

_ABLATIONS = Path(__file__).with_name("ablations.py")


@contextlib.contextmanager
def serving(methods: Iterable[str]) -> Iterator[dict[str, Path]]:
    """Has one daemon live for each method; yields the folder of each."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(_daemon(name)) for name in methods}


@contextlib.contextmanager
def _daemon(method: str) -> Iterator[Path]:
    from support.daemon import COMMAND, Daemon, environment, until

    variant = ours.VARIANTS[method]
    with tempfile.TemporaryDirectory(prefix="lrp") as name:
        daemon = Daemon(Path(name))
        config = daemon.folder / "lrpilot.toml"
        config.write_text(variant.config, encoding="utf-8")
        # -P: the names beside that file are no modules for the daemon.
        ablated = (sys.executable, "-P", str(_ABLATIONS), variant.ablation or "")
        command = ablated if variant.ablation else COMMAND
        where = ("--listen", daemon.address, "--storage", daemon.storage, "--config", config)
        with daemon.log_file.open("ab") as log:
            process = subprocess.Popen(
                [*command, "serve", *map(str, where)], stderr=log, env=environment()
            )
        daemon.process = process
        try:
            until(lambda: daemon.answers() or process.poll() is not None, what="the daemon")
            if process.poll() is not None:
                raise RuntimeError(f"{method}: the daemon ended at once:\n{daemon.log}")
            yield daemon.folder
        finally:
            daemon.kill()
