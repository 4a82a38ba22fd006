"""Events survive their way into a row and back."""

import dataclasses
import json
import math
import random
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpilot_controller.core import events, model
from lrpilot_controller.core.settings import (
    CoreSettings,
    GuardSettings,
    Limits,
    Reaction,
    Reactions,
    Reuse,
    SearchSettings,
)
from lrpilot_controller.core.telemetry import Samples, Thinned
from lrpilot_controller.journal import JournalCorrupt, JournalEntryError
from lrpilot_controller.journal.codec import KINDS, Row, decode, encode, identical

INT64 = st.integers(-(2**63), 2**63 - 1)
STEPS = st.integers(0, 2**40)
FLOATS = st.floats() | st.floats(width=32) | st.sampled_from([math.nan, math.inf, -math.inf, -0.0])


def bits(value: Any) -> Any:
    """A value in which equality means the same bits, NaN included."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("<d", value)
    if dataclasses.is_dataclass(value):
        return [type(value), *(bits(getattr(value, f.name)) for f in dataclasses.fields(value))]
    if isinstance(value, Mapping):
        return {key: bits(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [tuple, *map(bits, value)]
    return [type(value), value]


@st.composite
def telemetry(draw: st.DrawFn, integers: st.SearchStrategy[int] = STEPS) -> Samples:
    count = draw(st.integers(0, 40))

    def column(of: st.SearchStrategy[Any], size: int = count) -> tuple[Any, ...]:
        return tuple(draw(st.lists(of, min_size=size, max_size=size)))

    groups = draw(st.integers(0, 3))
    row = st.tuples(*[FLOATS] * groups)
    same = draw(st.booleans())
    lrs = (draw(row),) * draw(st.sampled_from([1, count])) if same else column(row)
    return Samples(
        attempt=draw(st.text(st.characters(codec="utf-8"))),
        first_seq=draw(STEPS),
        validation=column(st.booleans()),
        step=column(integers),
        branch=column(st.integers(0, 300)),
        program=column(st.integers(0, 3)),
        loss=column(draw(st.sampled_from([FLOATS, st.floats(width=32)]))),
        lrs=lrs,
        dropped=draw(STEPS),
    )


SIGNALS = st.builds(
    model.Signal,
    kind=st.sampled_from(model.SignalKind),
    step=STEPS,
    since=STEPS,
    severity=FLOATS,
    evidence=st.dictionaries(st.text(), FLOATS, max_size=4),
)
# The classes' own hints say how to build everything else.
st.register_type_strategy(model.Signal, SIGNALS)
st.register_type_strategy(float, FLOATS)
NAMES = st.text(st.characters(codec="utf-8"))
REPORT = {"attempt": NAMES, "report_seq": STEPS}
OTHERS = st.one_of(
    *(
        st.builds(cls, **{k: v for k, v in REPORT.items() if k in cls.__slots__})
        for cls in KINDS.values()
        if cls not in (Samples, Thinned, events.SessionOpened)
    ),
    st.builds(events.SessionOpened, st.builds(model.Attempt, id=NAMES)),
)


@settings(max_examples=60)
@given(telemetry() | telemetry(INT64))
def test_telemetry_round_trip(samples: Samples) -> None:
    assert bits(decode(encode(samples))) == bits(samples)


@settings(max_examples=60)
@given(telemetry(), st.data())
def test_thinned_telemetry_round_trip(rows: Samples, data: st.DataObject) -> None:
    seq = st.integers(rows.first_seq, rows.first_seq + 10**6)
    count = len(rows.step)
    seqs = sorted(data.draw(st.lists(seq, min_size=count, max_size=count, unique=True)))
    thinned = Thinned(rows, tuple(seqs), rows.first_seq + 10**6 + 1, 10**6, 256)
    row = encode(thinned)
    assert (row.attempt, row.first_seq, row.count) == (rows.attempt, rows.first_seq, 10**6 + 1)
    assert bits(decode(row)) == bits(thinned)


@settings(max_examples=300)
@given(OTHERS)
def test_other_events_round_trip(event: Any) -> None:
    row = encode(event)
    assert KINDS[row.kind] is type(event)
    assert bits(decode(row)) == bits(event)


def test_settings_round_trip_whole() -> None:
    reactions = Reactions(plateau=Reaction.PROBE, spike=Reaction.OFF)
    made = CoreSettings(
        guard=GuardSettings(0.5, 0.05, 0.2, 5),
        limits=Limits(4.0, 6, 0.25, 0.2, 10),
        search=SearchSettings(Reuse.NEVER),
        reactions=reactions,
        insisted={"overfit": Reaction.STOP},
        probation_steps=80,
    )
    assert decode(encode(events.Configured(made))) == events.Configured(made)


def test_every_event_class_has_a_kind() -> None:
    assert set(KINDS.values()) == set(events.Event.__args__)
    assert len(set(KINDS.values())) == len(KINDS)


def test_columns_for_queries() -> None:
    samples = Samples("t", 9, (False,) * 2, (1, 2), (0, 0), (0, 0), (1.0, 2.0), ((0.1,),))
    row = encode(samples)
    assert (row.kind, row.attempt, row.first_seq, row.count) == ("samples", "t", 9, 2)
    row = encode(events.Noticed("t", 7, "kind", 3, "text"))
    assert (row.kind, row.attempt, row.first_seq, row.count) == ("notice", "t", 7, 1)
    row = encode(events.SessionOpened(model.Attempt("t2", (), 0.0, 1.0)))
    assert (row.kind, row.attempt, row.first_seq, row.count) == ("session_opened", "t2", 0, 0)


def stored(kind: str, value: Any) -> Row:
    return Row(kind, None, 0, 0, b"P" + json.dumps(value).encode())


def test_fields_of_a_newer_version_are_ignored_and_missing_ones_default() -> None:
    outcome = {"decision_id": 3, "verdict": "worse", "gain": 0, "steps": 9, "mood": "grim"}
    event = decode(stored("outcome", {"outcome": outcome, "and": 1}))
    assert event == events.OutcomeMeasured(model.Outcome(3, model.Verdict.WORSE, 0.0, 9))


def test_what_only_a_newer_version_understands_is_none() -> None:
    assert decode(stored("dance", {})) is None
    outcome = {"decision_id": 3, "verdict": "splendid", "gain": 0, "steps": 9}
    assert decode(stored("outcome", {"outcome": outcome})) is None


@pytest.mark.parametrize(
    "payload",
    [b"", b"Q{}", b"P{", b"P[]", b"P{}", b'P{"attempt":5}', b"Zx", b"P\xff"],
)
def test_a_damaged_record_is_said_to_be(payload: bytes) -> None:
    with pytest.raises(JournalCorrupt, match="session_lost"):
        decode(Row("session_lost", "t", 0, 0, payload))


@settings(max_examples=60)
@given(telemetry(), st.data())
def test_damaged_telemetry_is_an_error_or_telemetry(samples: Samples, data: st.DataObject) -> None:
    """Never another exception, whatever the disk made of it."""
    row = encode(samples)
    body = row.payload[1:] if row.payload[:1] == b"P" else zlib.decompress(row.payload[1:])
    cut = data.draw(st.integers(0, len(body)))
    noise = data.draw(st.binary(max_size=8))
    try:
        decoded = decode(dataclasses.replace(row, payload=b"P" + body[:cut] + noise + body[cut:]))
    except JournalCorrupt:
        return
    assert isinstance(decoded, Samples)


@pytest.mark.parametrize(
    "change",
    [
        {"branch": (0,)},
        {"lrs": ((0.1,), (0.1,), (0.1,))},
        {"lrs": ((0.1,), (0.1, 0.2))},
        {"dropped": 1 << 64},
        {"first_seq": -1},
        {"loss": ("x", 1.0)},
    ],
)
def test_impossible_telemetry_is_refused(change: dict[str, Any]) -> None:
    samples = Samples("t", 0, (False,) * 2, (1, 2), (0, 0), (0, 0), (1.0, 2.0), ((0.1,),))
    with pytest.raises(JournalEntryError, match="Samples cannot be journaled"):
        encode(dataclasses.replace(samples, **change))


def test_stored_json_is_strict() -> None:
    evidence = {"nan": math.nan, "inf": -math.inf, "numpy": float(np.float64(0.1))}
    signal = model.Signal(model.SignalKind.SPIKE, 1, 0, math.inf, evidence)
    row = encode(events.SignalSeen(signal))
    body = row.payload[1:] if row.payload[:1] == b"P" else zlib.decompress(row.payload[1:])
    json.loads(body, parse_constant=pytest.fail)


def outcome(gain: float, loss: float) -> events.OutcomeMeasured:
    return events.OutcomeMeasured(model.Outcome(1, model.Verdict.WORSE, gain, 50, loss, loss))


def test_events_are_identical_where_their_bytes_are() -> None:
    bad = outcome(-1.0, math.nan)
    read = decode(encode(bad))
    assert read is not None
    assert read != bad, "a NaN is no NaN to Python"
    assert identical(read, bad)
    assert not identical(bad, outcome(-1.0, math.inf))
    assert not identical(outcome(0.0, 1.0), outcome(-0.0, 1.0))
    assert not identical(outcome(0.1, 1.0), outcome(math.nextafter(0.1, 1), 1.0))
    assert not identical(bad, events.SnapshotProven("t1", 1))


def test_numpy_numbers_are_written_as_plain_ones() -> None:
    evidence: Any = {"a": np.float32(0.5), "b": np.int64(3), "c": np.float64(0.1)}
    signal = model.Signal(model.SignalKind.SPIKE, 1, 0, 1.0, evidence)
    assert decode(encode(events.SignalSeen(signal))) == events.SignalSeen(signal)


@pytest.mark.parametrize(
    ("single", "schedule", "limit"), [(True, False, 5), (True, True, 8), (False, True, 12)]
)
def test_telemetry_is_compact(single: bool, schedule: bool, limit: float) -> None:
    """Bytes per sample of a noisy loss, with a constant or a cosine LR."""
    random.seed(0)
    steps = range(5000, 5256)
    losses = [2 + random.gauss(0, 0.1) for _ in steps]
    if single:
        losses = [float(np.float32(loss)) for loss in losses]
    lrs = [0.05 * (1 + math.cos(math.pi * k / 50_000)) if schedule else 0.1 for k in steps]
    none = (0,) * 256
    samples = Samples(
        "t", 5000, (False,) * 256, tuple(steps), none, none, tuple(losses),
        tuple((lr, lr / 10) for lr in lrs),
    )  # fmt: skip
    assert len(encode(samples).payload) / 256 <= limit
