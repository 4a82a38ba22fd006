"""Telemetry as packed columns: a few bytes and well under a microsecond per sample.

Integers are kept as a start and narrow differences, floats bit for bit (as float32 where that
loses nothing, which is what a framework's loss is). Bytes of equal weight are laid side by side,
because that is what lets zlib see that exponents and signs hardly change.
"""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrpilot_controller.core.telemetry import Samples, Thinned

_HEADER = struct.Struct("<BHq")  # flags, param groups, dropped
_THINNED = struct.Struct("<qqqI")  # rows, train losses that were there, stretch, bytes of numbers
_START = struct.Struct("<bq")  # how the integers go on, start

# How integers go on: the same for ever, by an equal stride, else by differences of 1..8 bytes.
_CONSTANT, _STRIDE = 0, -1

_ONE_ROW = 1  # the samples came with a single row of LRs
_EQUAL_ROWS = 2  # one row is stored, and stands for every sample
_FLOAT32 = 4  # losses
_VALIDATION = 8  # a bitmap of validation rows follows

_Ints = NDArray[np.int64]


def pack(samples: Samples) -> bytes:
    """The columns of `samples`, without attempt, first_seq and count.

    Raises:
        ValueError: The columns differ in length, or rows of LRs do.
        OverflowError: An integer needs more than 64 bits.
    """
    count = len(samples.step)
    columns = (samples.validation, samples.branch, samples.program, samples.loss)
    if any(len(column) != count for column in columns):
        lengths = [count, *map(len, columns)]
        raise ValueError(f"step, validation, branch, program and loss differ in length: {lengths}")
    if len(samples.lrs) not in (1, count):
        raise ValueError(f"{len(samples.lrs)} rows of LRs for {count} samples; give {count} or 1")

    flags = 0
    lrs = np.array(samples.lrs, np.float64) if samples.lrs else np.empty((0, 0))
    groups = lrs.shape[1]
    bits = np.ascontiguousarray(lrs).view(np.int64).reshape(lrs.shape)
    if len(bits) == 1 and count != 1:
        flags |= _ONE_ROW
    if len(bits) and bool((bits == bits[0]).all()):
        flags |= _EQUAL_ROWS
        bits = bits[:1]

    loss: NDArray[Any] = np.array(samples.loss, np.float64)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        narrow = loss.astype(np.float32)
    if bool(((narrow == loss) | np.isnan(loss)).all()):
        flags |= _FLOAT32
        loss = narrow

    parts = [b"", _pack_ints(samples.step), _pack_ints(samples.branch)]
    parts.append(_pack_ints(samples.program))
    if any(samples.validation):
        flags |= _VALIDATION
        parts.append(np.packbits(np.array(samples.validation, np.bool_)).tobytes())
    parts.append(_shuffle(loss))
    # A schedule is smooth, so the second differences of its bit patterns are small. One group
    # after the other: equal groups then cost nearly nothing.
    parts += [_shuffle(_bend(_bend(bits[:, group]))) for group in range(groups)]
    parts[0] = _HEADER.pack(flags, groups, samples.dropped)
    return b"".join(parts)


def unpack(data: bytes, *, attempt: str, first_seq: int, count: int) -> Samples:
    """What `pack` packed.

    Raises:
        ValueError, struct.error: The bytes are damaged.
    """
    flags, groups, dropped = _HEADER.unpack_from(data)
    reader = _Reader(data, _HEADER.size)
    step, branch, program = (reader.ints(count) for _ in range(3))
    validation: tuple[bool, ...] = (False,) * count
    if flags & _VALIDATION:
        bitmap = np.frombuffer(reader.take((count + 7) // 8), np.uint8)
        validation = tuple(np.unpackbits(bitmap, count=count).astype(np.bool_).tolist())
    loss = reader.array(np.dtype("<f4" if flags & _FLOAT32 else "<f8"), count)
    rows = 1 if flags & (_ONE_ROW | _EQUAL_ROWS) else count
    bits = [_unbend(_unbend(reader.array(np.dtype("<i8"), rows))) for _ in range(groups)]
    reader.done()
    lrs = tuple(zip(*(column.view(np.float64).tolist() for column in bits), strict=True))
    if not groups:
        lrs = ((),) * rows
    if flags & _EQUAL_ROWS and not flags & _ONE_ROW:
        lrs *= count
    return Samples(
        attempt=attempt,
        first_seq=first_seq,
        validation=validation,
        step=step,
        branch=branch,
        program=program,
        loss=tuple(loss.tolist()),
        lrs=lrs,
        dropped=dropped,
    )


def pack_thinned(thinned: Thinned) -> bytes:
    """What is left of telemetry, without attempt, first_seq and next_seq.

    Raises:
        ValueError, OverflowError: As `pack`; or there is not one number per row.
    """
    if len(thinned.seq) != len(thinned.rows.step):
        raise ValueError(f"{len(thinned.seq)} numbers for {len(thinned.rows.step)} rows")
    seq = _pack_ints(thinned.seq)
    head = _THINNED.pack(len(thinned.seq), thinned.train, thinned.stretch, len(seq))
    return head + seq + pack(thinned.rows)


def unpack_thinned(data: bytes, *, attempt: str, first_seq: int, count: int) -> Thinned:
    """What `pack_thinned` packed; `count` is how many numbers it covers.

    Raises:
        ValueError, struct.error: The bytes are damaged.
    """
    left, train, stretch, length = _THINNED.unpack_from(data)
    end = _THINNED.size + length
    reader = _Reader(data[:end], _THINNED.size)
    seq = reader.ints(left)
    reader.done()
    rows = unpack(data[end:], attempt=attempt, first_seq=first_seq, count=left)
    return Thinned(rows, seq, first_seq + count, train, stretch)


def _bend(column: _Ints) -> _Ints:
    """The first value, then differences that wrap: lossless for any bits."""
    if len(column) < 2:
        return column
    return np.concatenate((column[:1], _differences(column)))


def _differences(column: _Ints) -> _Ints:
    """What `np.diff` gives, at a fifth of its cost for the few samples of a batch."""
    return column[1:] - column[:-1]


def _unbend(column: _Ints) -> _Ints:
    return np.cumsum(column, dtype=np.int64)


def _shuffle(column: NDArray[Any]) -> bytes:
    little = np.ascontiguousarray(column).astype(column.dtype.newbyteorder("<"), copy=False)
    return little.view(np.uint8).reshape(len(column), column.itemsize).T.tobytes()


def _pack_ints(values: Sequence[int]) -> bytes:
    if not values or values.count(values[0]) == len(values):  # most branches and programs
        return _START.pack(_CONSTANT, values[0] if values else 0)
    column = np.array(values, np.int64)
    steps = _differences(column)
    start = int(column[0])
    if bool((steps == steps[0]).all()):
        return _START.pack(_STRIDE, start) + steps[:1].astype("<i8").tobytes()
    low, high = int(steps.min()), int(steps.max())
    width = next(w for w in (1, 2, 4, 8) if -(1 << 8 * w - 1) <= low and high < 1 << 8 * w - 1)
    return _START.pack(width, start) + _shuffle(steps.astype(f"<i{width}"))


class _Reader:
    """A place in the packed bytes."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data = data
        self._place = place

    def take(self, size: int) -> bytes:
        part = self._data[self._place : self._place + size]
        if len(part) != size:
            raise ValueError(f"{size} bytes expected at {self._place}, {len(part)} left")
        self._place += size
        return part

    def array(self, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        planes = np.frombuffer(self.take(dtype.itemsize * count), np.uint8)
        return np.ascontiguousarray(planes.reshape(dtype.itemsize, count).T).view(dtype).reshape(-1)

    def ints(self, count: int) -> tuple[int, ...]:
        way, start = _START.unpack(self.take(_START.size))
        if way == _CONSTANT:
            return (start,) * count
        steps = np.ones(max(count - 1, 0), np.int64)
        if way == _STRIDE:
            steps *= self.array(np.dtype("<i8"), 1)
        elif way in (1, 2, 4, 8):
            steps *= self.array(np.dtype(f"<i{way}"), len(steps))
        else:
            raise ValueError(f"a column of {way} byte integers")
        return tuple(_unbend(np.concatenate(([start], steps))).tolist())

    def done(self) -> None:
        if self._place != len(self._data):
            raise ValueError(f"{len(self._data) - self._place} bytes too many")
