"""The scalars in TensorBoard's event files, through the `tensorboard` package."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from lrpilot_controller.errors import LRPilotError
from lrpilot_controller.streams.reading import BadInput, Reading

OPTIONS = {"train_loss": "--tag", "val_loss": "--val-tag", "lr": "--lr-tag"}


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags of the parts of a reading; at least one of the losses has one."""

    train_loss: str | None = None
    val_loss: str | None = None
    lr: str | None = None


def tensorboard_scalars(path: Path, tags: Tags) -> Iterator[Reading]:
    """One reading per step that has a scalar of these tags, in the order of the steps.

    All scalars are read, none is thinned out; values are 32-bit floats, as event files hold them.
    Of a step with two values of one tag each gets a reading.

    Args:
        path: a directory that holds event files, or one such file.
        tags: what to read.

    Raises:
        LRPilotError: the `tensorboard` package is missing.
        BadInput: there are no event files, or no scalars of such a tag.
    """
    loaded = _load(path)
    known = sorted(loaded.PluginTagToContent("scalars")) if _has_scalars(loaded) else []
    wanted = {part: tag for part, tag in asdict(tags).items() if tag is not None}
    there = f"the scalars in {path} are: {', '.join(known) or 'none'}"
    if not {"train_loss", "val_loss"} & wanted.keys():
        raise BadInput(f"name the tag of the training loss with --tag; {there}")
    for part, tag in wanted.items():
        if tag not in known:
            raise BadInput(f"no scalar {tag!r} ({OPTIONS[part]}); {there}")
    points = [
        (step, part, value) for part, tag in wanted.items() for step, value in _values(loaded, tag)
    ]
    points.sort(key=lambda point: point[0])
    for step, group in groupby(points, key=lambda point: point[0]):
        yield from _readings(step, [(part, value) for _, part, value in group])


def _load(path: Path) -> Any:
    try:
        from tensorboard.backend.event_processing.plugin_event_accumulator import (
            EventAccumulator,
        )
    except ImportError as error:
        raise LRPilotError(
            f"TensorBoard's event files need the tensorboard package ({error}): "
            'pip install "lrpilot[tensorboard]"'
        ) from error
    _check(path)
    # 0 keeps everything; of what is no scalar (images, histograms) one suffices.
    loaded = EventAccumulator(
        str(path), size_guidance={"tensors": 1}, tensor_size_guidance={"scalars": 0}
    )
    return loaded.Reload()


def _check(path: Path) -> None:
    """Refuse what holds no event files, by the names that TensorBoard goes by."""
    if path.is_file() and "tfevents" in path.name:
        return
    if not path.is_dir():
        raise BadInput(f"{path} is neither a directory nor an event file (*tfevents*)")
    if not any(path.glob("*tfevents*")):
        below = sorted({str(file.parent) for file in path.rglob("*tfevents*")})
        hint = f"; there are some in: {', '.join(below)}" if below else ""
        raise BadInput(f"no event files (*tfevents*) in {path}{hint}")


def _has_scalars(loaded: Any) -> bool:
    return "scalars" in loaded.ActivePlugins()


def _values(loaded: Any, tag: str) -> Iterator[tuple[int, float]]:
    """The steps and values of a tag, in the order in which they were written."""
    from tensorboard.util.tensor_util import make_ndarray

    for event in loaded.Tensors(tag):
        yield event.step, float(make_ndarray(event.tensor_proto).item())


def _readings(step: int, values: list[tuple[str, float]]) -> Iterator[Reading]:
    fields: dict[str, float] = {}
    for part, value in values:
        if part in fields:
            yield Reading(step, **fields)
            fields = {}
        fields[part] = value
    yield Reading(step, **fields)
