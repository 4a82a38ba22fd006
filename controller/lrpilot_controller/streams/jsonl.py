"""JSON lines, `{"step": 1, "train_loss": 2.3, "val_loss": null, "lr": 0.1}`, as they arrive."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from lrpilot_controller.streams.reading import (
    BadInput,
    Names,
    Reading,
    StepCounter,
    bad_line,
    text_lines,
)

EXPECTED = (
    "one JSON object per line, such as "
    '{"step": 1, "train_loss": 2.3, "val_loss": null, "lr": 0.1}; all fields may be missing or '
    'null, losses may be "NaN", "Infinity" or "-Infinity"'
)
WORDS = ("NaN", "Infinity", "-Infinity")


def json_lines(lines: Iterable[bytes], names: Names | None = None) -> Iterator[Reading]:
    """One reading per line that is not blank, as soon as the line is there.

    Other fields than those named are passed over.

    Args:
        lines: UTF-8.
        names: what the log calls its fields.

    Raises:
        BadInput: a line is not what was expected, or all lines were read and none has a field for
            a loss.
    """
    candidates = (names or Names()).candidates()
    counter = StepCounter()
    seen: dict[str, None] = {}
    known = False
    for number, line in enumerate(text_lines(lines), 1):
        if not line.strip():
            continue
        try:
            fields = _object(line)
            found = {
                part: next((name for name in possible if name in fields), None)
                for part, possible in candidates.items()
            }
            known = known or bool(found["train_loss"] or found["val_loss"])
            values = {part: _number(fields, name) for part, name in found.items() if name}
            step = counter.of(values.pop("step", None))
        except ValueError as error:
            bad_line(number, line, str(error), EXPECTED)
        seen |= dict.fromkeys(fields)
        yield Reading(step, **values)
    if seen and not known:
        wanted = ", ".join((*candidates["train_loss"], *candidates["val_loss"]))
        raise BadInput(
            f"no line has a field for a loss ({wanted}); the fields are {', '.join(seen)}: name "
            "yours with --train-loss or --val-loss"
        )


def _object(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at character {error.pos + 1})") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _number(fields: dict[str, Any], name: str) -> float | None:
    value = fields[name]
    if value is None:
        return None
    if isinstance(value, str) and value in WORDS:
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name!r} is {value!r}, not a number")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{name!r} is an integer that no float can hold") from error
