"""Any bytes: they are refused by name, or become an event that the journal gives back as it was."""

import random
from contextlib import suppress

from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from lrpilot_controller.core.events import Event, SessionOpened
from lrpilot_controller.core.model import Attempt, ParamGroup
from lrpilot_controller.errors import InvalidTelemetry
from lrpilot_controller.journal.base import JournalEntryError
from lrpilot_controller.journal.codec import decode, encode, identical
from lrpilot_controller.server import convert
from lrpilot_proto.v1 import session_pb2
from support.fuzz import Fuzzer, Trainer, spoilt

ATTEMPT = Attempt("a", (ParamGroup("g", 0.1),), min_lr=0.0, max_lr=1.0)


def event_of(message: session_pb2.TrainerMessage) -> Event | None:
    match message.WhichOneof("body"):
        case "hello":
            return SessionOpened(convert.attempt_from(message.hello))
        case "telemetry":
            return convert.samples_from(message.telemetry, ATTEMPT)
        case "report":
            return convert.report_from(message.report, ATTEMPT)
    return None


def check(raw: bytes) -> None:
    with suppress(DecodeError, InvalidTelemetry, JournalEntryError):  # refused by name
        event = event_of(Trainer.FromString(raw))
        if event is not None:
            stored = decode(encode(event))
            assert stored is not None
            assert identical(stored, event)


@given(st.binary(max_size=400))
@example(b"")
@example(b"\xff\xff\xff\xff")
def test_any_bytes(raw: bytes) -> None:
    check(raw)


@given(st.integers(0, 2**32))
def test_bytes_that_were_a_message(seed: int) -> None:
    fuzzer, rng = Fuzzer(seed), random.Random(seed)
    for raw in fuzzer.session():
        for made in (raw, fuzzer.mutated(raw), spoilt(rng, raw)):
            check(made)
            check(Trainer(report=session_pb2.Report()).SerializeToString() + made)
