"""`lrpilot detect`: the detectors on losses from a file, from a pipe, from TensorBoard."""

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pytorch_lightning.loggers import CSVLogger
from torch.utils.tensorboard import SummaryWriter

import lrpilot_controller.cli as command
from lrpilot_controller.core.detectors import Detectors
from lrpilot_controller.core.model import Signal
from lrpilot_controller.errors import LRPilotError
from support.streams import descent, explosion

LOSSES = [*descent(150, seed=3), math.nan, *descent(30), *explosion(60), math.nan, math.inf]
COMMAND = (sys.executable, "-m", "lrpilot_controller", "detect")


def expected(losses: Sequence[float] = LOSSES) -> list[Signal]:
    detectors = Detectors()
    return [s for step, loss in enumerate(losses) for s in detectors.update(step, loss)]


def log(losses: Sequence[float] = LOSSES) -> str:
    return "".join(f"{json.dumps({'step': k, 'train_loss': x})}\n" for k, x in enumerate(losses))


def detect(*args: str | Path, given: str | None = None) -> Result:
    return CliRunner().invoke(command.cli, ["detect", *map(str, args)], input=given)


def strict(constant: str) -> Any:
    raise AssertionError(f"{constant} is not JSON")


def said(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line, parse_constant=strict) for line in result.stdout.splitlines()]


def brief(signals: Sequence[Signal]) -> list[tuple[int, str, int, float]]:
    return [(s.step, s.kind.value, s.since, s.severity) for s in signals]


def told(lines: Sequence[dict[str, Any]]) -> list[tuple[int, str, int, float]]:
    return [(s["step"], s["kind"], s["since"], s["severity"]) for s in lines]


# -- what it prints


def test_it_prints_a_line_of_json_for_each_signal() -> None:
    lines = said(detect(given=log()))
    assert {line["kind"] for line in lines} >= {"nonfinite", "divergence"}
    assert told(lines) == brief(expected())
    for line, signal in zip(lines, expected(), strict=True):
        assert list(line) == ["step", "kind", "since", "severity", "evidence"]
        assert {name: float(x) for name, x in line["evidence"].items()} == pytest.approx(
            dict(signal.evidence), nan_ok=True
        )


def test_a_run_that_goes_well_prints_nothing() -> None:
    assert said(detect(given=log(descent(200)))) == []


def test_the_same_losses_from_a_file_a_table_and_tensorboard(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(log())
    rows = "".join(f"{k},{x}\n" for k, x in enumerate(LOSSES))
    (tmp_path / "log.csv").write_text("step,loss\n" + rows)
    with SummaryWriter(tmp_path / "tb") as writer:
        for step, loss in enumerate(LOSSES):
            writer.add_scalar("train/loss", loss, step)
    wanted = brief(expected())
    assert told(said(detect(tmp_path / "log.jsonl"))) == wanted
    assert told(said(detect("--from", "csv", tmp_path / "log.csv"))) == wanted
    piped = (tmp_path / "log.csv").read_text()
    assert told(said(detect("--from", "csv", "-", given=piped))) == wanted
    found = said(detect("--from", "tb", tmp_path / "tb", "--tag", "train/loss"))
    # Its 32-bit floats move a severity in the last digits, not what is seen and when.
    assert [line[:3] for line in told(found)] == [line[:3] for line in wanted]


def test_what_lightning_logs(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="v")
    for step, loss in enumerate(LOSSES):
        logger.log_metrics({"train_loss": loss, "epoch": step // 50}, step)
        if step % 50 == 49:
            logger.log_metrics({"val_loss": 1.0, "epoch": step // 50}, step)
    logger.save()
    found = told(said(detect("--from", "csv", tmp_path / "v" / "metrics.csv")))
    assert [line[:3] for line in found] == [line[:3] for line in brief(expected())]


def test_only_the_kinds_that_were_asked_for() -> None:
    for kinds in (["divergence"], ["divergence", "nonfinite"]):
        args = [word for kind in kinds for word in ("--kind", kind)]
        lines = said(detect(*args, given=log()))
        assert {line["kind"] for line in lines} == set(kinds)
        assert told(lines) == brief([s for s in expected() if s.kind in kinds])


def test_the_length_of_the_run_reaches_the_detectors(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int | None, int | None]] = []

    def make(total_steps: int | None, steps_per_epoch: int | None) -> Detectors:
        made.append((total_steps, steps_per_epoch))
        return Detectors(total_steps, steps_per_epoch)

    monkeypatch.setattr("lrpilot_controller.cli.detect.make_detectors", make)
    detect("--total-steps", "500", "--steps-per-epoch", "50", given=log())
    detect(given=log())
    assert made == [(500, 50), (None, None)]


# -- as a process


@pytest.fixture
def running() -> Iterator["subprocess.Popen[str]"]:
    """The command, fed by a pipe that stays open."""
    pipe = subprocess.PIPE
    with subprocess.Popen(COMMAND, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        yield process
        process.kill()


@pytest.mark.timeout(60)
def test_a_signal_is_printed_before_the_next_line_is_written(
    running: "subprocess.Popen[str]",
) -> None:
    """As in `tail -f train.jsonl | lrpilot detect`; were it held back, this would wait for ever."""
    assert running.stdin is not None
    assert running.stdout is not None
    due = Counter(signal.step for signal in expected())
    assert len(due) > 1
    for step, line in enumerate(log().splitlines(keepends=True)):
        running.stdin.write(line)
        running.stdin.flush()
        for _ in range(due[step]):
            assert json.loads(running.stdout.readline())["step"] == step
    running.stdin.close()
    assert running.stdout.read() == ""
    assert running.wait() == 0


def test_a_bad_line_ends_it_and_loses_nothing_before_it() -> None:
    text = log() + "oops\n" + log()
    done = subprocess.run(COMMAND, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert told(lines) == brief(expected())
    assert done.stderr.startswith(f"lrpilot: line {len(LOSSES) + 1}: not JSON")
    assert "oops" in done.stderr
    assert "expected one JSON object per line" in done.stderr
    assert "Traceback" not in done.stderr


# -- what it refuses


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["no-such-file"], "cannot read no-such-file: No such file or directory"),
        (["."], "is a directory: TensorBoard's event files need --from tb"),
        (["--from", "tb"], "cannot be read from standard input"),
        (["--from", "tb", "no-such-file"], "neither a directory nor an event file"),
    ],
)
def test_what_cannot_be_read_is_an_error(args: list[str], problem: str) -> None:
    result = detect(*args, given="")
    assert isinstance(result.exception, LRPilotError)
    assert problem in str(result.exception)


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["--tag", "loss"], "need --from tb"),
        (["--from", "tb", "--train-loss", "loss", "."], "use --tag"),
        (["--kind", "boredom"], "'boredom' is not one of"),
        (["--total-steps", "0"], "0 is not in the range"),
    ],
)
def test_options_that_do_not_fit_are_an_error(args: list[str], problem: str) -> None:
    result = detect(*args, given="")
    assert result.exit_code == 2
    assert problem in " ".join(result.output.split())
