"""Losses from TensorBoard's event files, written by PyTorch's and by TensorBoard's own writer."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from torch.utils.tensorboard import SummaryWriter

from lrpilot_controller.errors import LRPilotError
from lrpilot_controller.streams import BadInput, Reading, Tags, tensorboard_scalars

STEPS = 12_000  # TensorBoard itself keeps a sample of 10,000 at most


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Event files as a training loop writes them."""
    path = tmp_path_factory.mktemp("runs") / "exp-1"
    writer = SummaryWriter(path)
    for step in range(STEPS):
        writer.add_scalar("train/loss", 2.5 - step / STEPS, step)
        if step % 100 == 99:
            writer.add_scalar("val/loss", 3.0, step)
            writer.add_scalar("lr", 0.1, step)
    writer.add_scalar("train/loss", math.nan, STEPS)
    writer.add_histogram("weights", np.arange(10.0), 3)
    writer.close()
    return path


def read(path: Path, *tags: str | None) -> list[Reading]:
    return list(tensorboard_scalars(path, Tags(*tags)))


def refusal(path: Path, *tags: str | None) -> str:
    with pytest.raises(BadInput) as caught:
        read(path, *tags)
    return str(caught.value)


def test_every_scalar_is_read_with_what_belongs_to_its_step(run: Path) -> None:
    found = read(run, "train/loss", "val/loss", "lr")
    assert [r.step for r in found] == list(range(STEPS + 1))
    losses = [r.train_loss for r in found]
    assert losses[:STEPS] == [float(np.float32(2.5 - step / STEPS)) for step in range(STEPS)]
    assert math.isnan(losses[-1])  # type: ignore[arg-type]
    assert found[98] == Reading(98, losses[98])
    assert found[99] == Reading(99, losses[99], 3.0, float(np.float32(0.1)))


def test_one_tag_is_enough_and_a_single_file_too(run: Path) -> None:
    (file,) = run.glob("*tfevents*")
    assert read(file, None, "val/loss") == [Reading(s, val_loss=3.0) for s in range(99, STEPS, 100)]


def test_the_files_of_a_run_that_went_on_are_one_run(tmp_path: Path) -> None:
    for begin in (0, 5):
        with SummaryWriter(tmp_path, filename_suffix=f".{begin}") as writer:
            for step in range(begin, begin + 5):
                writer.add_scalar("loss", step, step)
    assert read(tmp_path, "loss") == [Reading(step, float(step)) for step in range(10)]


def test_both_ways_to_store_a_scalar_are_read(tmp_path: Path) -> None:
    """TensorFlow 1 and PyTorch store a number, TensorFlow 2 and Keras a tensor."""
    writer = EventFileWriter(str(tmp_path))
    for step, summary in enumerate(
        [
            Summary(value=[Summary.Value(tag="loss", simple_value=1.5)]),
            scalar_pb("loss", 2.5),
        ]
    ):
        writer.add_event(Event(step=step, wall_time=1.0, summary=summary))
    writer.close()
    assert read(tmp_path, "loss") == [Reading(0, 1.5), Reading(1, 2.5)]


def test_two_values_of_one_step_are_two_readings(tmp_path: Path) -> None:
    with SummaryWriter(tmp_path) as writer:
        for loss in (1.0, 2.0):
            writer.add_scalar("loss", loss, 7)
    assert read(tmp_path, "loss") == [Reading(7, 1.0), Reading(7, 2.0)]


def test_an_unknown_tag_is_refused_with_those_that_are_there(run: Path) -> None:
    text = refusal(run, "train/loss", "loss/val")
    assert text == (
        f"no scalar 'loss/val' (--val-tag); the scalars in {run} are: lr, train/loss, val/loss"
    )
    assert refusal(run, "weights").startswith("no scalar 'weights' (--tag)")


def test_without_a_tag_a_person_is_told_which_there_are(run: Path) -> None:
    for text in (refusal(run), refusal(run, None, None, "lr")):
        assert "name the tag of the training loss with --tag" in text
        assert "lr, train/loss, val/loss" in text


def test_event_files_without_scalars(tmp_path: Path) -> None:
    with SummaryWriter(tmp_path) as writer:
        writer.add_text("note", "nothing measured")
    assert refusal(tmp_path, "loss").endswith("are: none")


def test_a_directory_of_runs_is_refused_with_the_runs(run: Path) -> None:
    text = refusal(run.parent, "train/loss")
    assert text == f"no event files (*tfevents*) in {run.parent}; there are some in: {run}"


def test_what_holds_no_event_files_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, "loss") == f"no event files (*tfevents*) in {tmp_path}"
    assert "neither a directory nor an event file" in refusal(tmp_path / "none", "loss")
    (tmp_path / "log.txt").write_text("loss")
    assert "neither a directory nor an event file" in refusal(tmp_path / "log.txt", "loss")


def test_without_the_package_a_person_is_told_how_to_get_it(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "tensorboard.backend.event_processing.plugin_event_accumulator"
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(LRPilotError, match=r'pip install "lrpilot\[tensorboard\]"'):
        read(run, "train/loss")
