"""The enums of the wire <-> the words of the core, and the one bound that all numbers share."""

from lrpilot_controller.core.model import DecisionStatus, Mode
from lrpilot_controller.errors import InvalidTelemetry
from lrpilot_proto.v1 import model_pb2

# Steps are counted, not made up: no run gets there, and sums of them stay within 64 bits.
MAX_STEP = 2**53
# What a trainer has seen is counted on from, and a program's number has 32 bits on the wire.
MAX_DECISION = 2**31


def name_of(prefix: str, enum: object, number: int) -> str:
    """`MODE_AUTO` -> `auto`; empty for a value that only a newer peer knows."""
    try:
        return str(enum.Name(number)).removeprefix(prefix).lower()  # type: ignore[attr-defined]
    except ValueError:
        return ""


def mode_from(number: int, default: Mode = Mode.AUTO) -> Mode:
    """The mode; `default` where it is unset or unknown."""
    name = name_of("MODE_", model_pb2.Mode, number)
    return Mode(name) if name in set(Mode) else default


def mode_to(mode: Mode) -> str:
    """The mode as the name of its wire value."""
    return f"MODE_{mode.upper()}"


def status_to(status: DecisionStatus) -> str:
    """A decision's status as the name of its wire value."""
    return f"DECISION_STATUS_{status.upper()}"


def check_steps(what: str, **steps: int) -> None:
    """Refuse counts of steps that no run has.

    Raises:
        InvalidTelemetry: one is above `MAX_STEP`; the message names it and `what` it is of.
    """
    for name, value in steps.items():
        if value > MAX_STEP:
            raise InvalidTelemetry(f"{what}: {name} is {value}: at most {MAX_STEP}")


def check_decision(what: str, number: int) -> None:
    """Refuse a decision's number that no daemon gave.

    Raises:
        InvalidTelemetry: it is above `MAX_DECISION`; the message says `what` it is of.
    """
    if number > MAX_DECISION:
        raise InvalidTelemetry(f"{what} is {number}: at most {MAX_DECISION}")
