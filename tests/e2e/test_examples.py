"""The demo and every example, run as a user would, against the daemon that they start or find."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import COMMAND, cli, environment, until

EXAMPLES = Path(__file__).parents[2] / "examples"
DEMO = ("-m", "lrpilot.demo")


class Home:
    """A user of our own: a state directory, a runtime directory, and the daemon in them."""

    def __init__(self, folder: Path) -> None:
        self.storage = folder / "state" / "lrpilot"
        (folder / "run").mkdir(mode=0o700)
        self.environment = environment(
            XDG_STATE_HOME=folder / "state", XDG_RUNTIME_DIR=folder / "run", OMP_NUM_THREADS="1"
        )
        self._daemon: subprocess.Popen[bytes] | None = None

    def python(self, *arguments: str | Path, **changes: str) -> "subprocess.CompletedProcess[str]":
        """Run a script to its end; what it prints goes to no terminal."""
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            env=self.environment | changes,
            cwd=self.storage.parent.parent,
            capture_output=True,
            text=True,
            timeout=200,
        )

    def start_daemon(self) -> None:
        """Have one at work, however long a busy machine takes: a run waits ten seconds for it."""
        self._daemon = subprocess.Popen(
            [*COMMAND, "serve", "--linger", "60"], env=self.environment, stderr=subprocess.DEVNULL
        )
        sockets = Path(self.environment["XDG_RUNTIME_DIR"]) / "lrpilot"
        until(lambda: any(sockets.glob("*.sock")), timeout_s=120, what="the daemon")

    def end_daemon(self) -> None:
        """End the daemon that was started here, if one was."""
        if self._daemon is not None:
            self._daemon.terminate()
            self._daemon.wait(30)
            return
        lock = self.storage / "daemon.lock"
        if not lock.exists():
            return
        pid = int(lock.read_text())
        os.kill(pid, signal.SIGTERM)
        until(lambda: not _lives(pid), what="the daemon's end")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def home(folder: Path) -> Iterator[Home]:
    """Ended with the test."""
    one = Home(folder)
    yield one
    one.end_daemon()


@pytest.fixture
def served(home: Home) -> Home:
    """One whose daemon is at work: for what a run does under it."""
    home.start_daemon()
    return home


def test_the_demo_tells_its_story(home: Home) -> None:
    done = home.python(*DEMO, "--steps", "150")
    assert done.returncode == 0, done.stderr + done.stdout
    told = done.stdout
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", told), "control characters, and no terminal"
    assert re.search(r"step 3: the loss is no longer a number", told)
    assert "the rest of the night would be NaN" in told
    assert "training loss" in told
    assert re.search(r"^ *alone +nan *$", told, re.MULTILINE)
    end = re.search(r"^ *under LRPilot +(\d\.\d+) *$", told, re.MULTILINE)
    assert end is not None, told
    assert float(end[1]) < 3.2
    assert re.search(r"rollback +LR 5\.34 -> 1\.78", told)
    assert "150 steps" in told

    # The run is where `lrpilot` looks for it.
    command = re.search(r"lrpilot (show \S+) *$", told, re.MULTILINE)
    assert command is not None, told
    shown = cli(*command[1].split(), env=home.environment)
    assert shown.returncode == 0, shown.stderr
    assert "rollback" in shown.stdout
    assert command[1].split()[1] in cli("runs", env=home.environment).stdout


def test_the_demo_measures_the_reference_and_takes_other_rates(home: Home) -> None:
    done = home.python(*DEMO, "--steps", "60", "--multiplier", "1", "--reference", "--seed", "1")
    assert done.returncode == 0, done.stderr + done.stdout
    losses = re.findall(
        r"^ *(?:alone|under LRPilot|best constant LR.*) +(\d\.\d+) *$", done.stdout, re.M
    )
    assert len(set(losses)) == 1, done.stdout
    assert len(losses) == 3
    assert "nothing: this run was healthy" in done.stdout


def test_the_demo_says_when_no_daemon_can_be_had(home: Home) -> None:
    done = home.python(*DEMO, LRPILOT_ADDRESS=f"unix:{home.storage}/nobody.sock")
    assert done.returncode == 1
    assert "no daemon could be had: nobody listens at" in done.stdout
    assert "Traceback" not in done.stderr

    done = home.python(*DEMO, LRPILOT="off")
    assert done.returncode == 1
    assert "LRPILOT=off is set" in done.stderr


@pytest.mark.parametrize("missing", ["torch", "plotext", "sqlalchemy"])
def test_the_demo_names_what_is_not_installed(home: Home, missing: str) -> None:
    without = f"import sys; sys.modules[{missing!r}] = None; import lrpilot.demo.__main__ as demo; "
    done = home.python("-c", without + "sys.exit(demo.main([]))")
    assert done.returncode == 1
    line = f'lrpilot demo: not installed: {missing}. Run: pip install "lrpilot[all]"'
    assert done.stderr.splitlines() == [line]


def test_the_raw_example(served: Home) -> None:
    done = served.python(EXAMPLES / "raw_loop.py")
    assert done.returncode == 0, done.stderr
    alone, guarded, *decisions = done.stdout.splitlines()
    assert re.match(r"mode='off': last loss nan, ", alone)
    assert _percent(guarded) > 85
    assert any(re.search(r"step \d+: rollback, LR \S+ -> ", line) for line in decisions)


@pytest.mark.parametrize(
    "name", ["mixed_precision", "compiled_step", "two_optimizers", "scheduler_object"]
)
@pytest.mark.slow
def test_the_examples_of_other_raw_loops(served: Home, name: str) -> None:
    done = served.python(EXAMPLES / f"{name}.py")
    assert done.returncode == 0, done.stderr
    alone, guarded, *decisions = done.stdout.splitlines()
    assert re.match(r"mode='off': last loss nan, ", alone)
    assert _percent(guarded) > 75
    assert any(re.search(r"step \d+: rollback, LR \S+ -> ", line) for line in decisions)


def test_the_lightning_example(served: Home) -> None:
    pytest.importorskip("pytorch_lightning")
    done = served.python(EXAMPLES / "lightning_digits.py")
    assert done.returncode == 0, done.stderr
    alone, guarded, *decisions = done.stdout.splitlines()
    assert re.match(r"alone: \d+ epochs, val_loss nan", alone)
    assert guarded.startswith("under LRPilot")
    assert _percent(guarded) > 85
    assert any(re.search(r"step \d+: rollback, LR \S+ -> ", line) for line in decisions)


@pytest.mark.slow
def test_the_example_of_manual_optimization(served: Home) -> None:
    pytest.importorskip("pytorch_lightning")
    done = served.python(EXAMPLES / "lightning_manual.py")
    assert done.returncode == 0, done.stderr
    alone, searched, found = done.stdout.splitlines()
    assert _percent(alone) < 60
    assert _percent(searched) > 90
    assert (lr := re.match(r"  step \d+: plan, LR 1e-05 -> (\S+)$", found)) is not None
    assert float(lr[1]) > 1e-3


@pytest.mark.slow
def test_the_accelerate_example(served: Home) -> None:
    done = served.python(EXAMPLES / "accelerate_digits.py")
    assert done.returncode == 0, done.stderr
    alone, guarded, *decisions = done.stdout.splitlines()
    assert re.match(r"mode='off': last loss nan, ", alone)
    assert _percent(guarded) > 80
    assert any(re.search(r"step \d+: rollback, LR \S+ -> ", line) for line in decisions)


@pytest.mark.slow
def test_the_hugging_face_example(served: Home) -> None:
    done = served.python(EXAMPLES / "huggingface_text.py")
    assert done.returncode == 0, done.stderr
    losses = re.findall(r"held-out loss (\S+) per character", done.stdout)
    alone, searched = map(float, losses)
    assert searched < alone - 1
    found = re.search(r"^  step \d+: LR 1e-06 -> (\S+)$", done.stdout, re.M)
    assert found is not None, done.stdout
    assert float(found[1]) > 1e-4


@pytest.mark.slow
def test_the_example_with_two_ranks(served: Home) -> None:
    pytest.importorskip("pytorch_lightning")
    done = served.python(EXAMPLES / "lightning_ddp.py")
    assert done.returncode == 0, done.stderr
    told = sorted(line for line in done.stdout.splitlines() if "rank" in line)
    assert len(told) == 4
    assert all(line.startswith("alone, ") and "weights nan" in line for line in told[:2])
    first, second = (line.partition("rank ")[2][1:] for line in told[2:])
    assert first == second, "the ranks ended with other weights"
    assert _percent(first) > 85


def test_the_search_example(served: Home) -> None:
    done = served.python(EXAMPLES / "find_lr.py")
    assert done.returncode == 0, done.stderr
    line = r"^base LR (\S+) +(alone|searched) *: held-out loss (\S+) "
    told = re.findall(line, done.stdout, re.M)
    alone = {lr: float(loss) for lr, how, loss in told if how == "alone"}
    searched = {lr: float(loss) for lr, how, loss in told if how == "searched"}
    assert len(searched) == 3
    assert all(loss < 0.4 for loss in searched.values())
    assert sum(loss > 1 for loss in alone.values()) == 2


def _percent(line: str) -> float:
    found = re.search(r"([\d.]+)% of unseen digits right", line)
    assert found is not None, line
    return float(found[1])
