"""Losses from JSON lines and CSV: what is read, and how what is not is refused."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot_controller.streams import BadInput, Names, Reading, csv_rows, json_lines

Reader = Callable[[Iterable[bytes], Names | None], Iterator[Reading]]

FLOATS = st.none() | st.floats()
READINGS = st.builds(Reading, st.integers(0, 1 << 50), FLOATS, FLOATS, FLOATS)
WORD = {math.inf: "Infinity", -math.inf: "-Infinity"}


def jsonl(*lines: str, names: Names | None = None) -> list[Reading]:
    return list(json_lines([line.encode() + b"\n" for line in lines], names))


def table(*lines: str, names: Names | None = None) -> list[Reading]:
    return list(csv_rows([line.encode() + b"\n" for line in lines], names))


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(BadInput) as caught:
        read()
    return str(caught.value)


# -- what is read


def quoted(value: float | None) -> float | str | None:
    """As strict JSON has it."""
    if value is None or math.isfinite(value):
        return value
    return WORD.get(value, "NaN")


@given(st.lists(READINGS), st.booleans())
def test_every_reading_comes_back_from_json(readings: list[Reading], strict: bool) -> None:
    lines = []
    for reading in readings:
        fields = {
            "step": reading.step,
            "train_loss": reading.train_loss,
            "val_loss": reading.val_loss,
            "lr": reading.lr,
        }
        if strict:
            fields = {name: quoted(value) for name, value in fields.items()}
        lines.append(json.dumps(fields, allow_nan=not strict))
    assert repr(jsonl(*lines)) == repr(readings)


@given(st.lists(READINGS))
def test_every_reading_comes_back_from_csv(readings: list[Reading]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["epoch", "lr", "step", "train_loss", "val_loss"])
    for r in readings:
        writer.writerow([0, r.lr, r.step, r.train_loss, r.val_loss])
    assert repr(table(*text.getvalue().splitlines())) == repr(readings)


def test_fields_may_be_missing_and_others_are_passed_over() -> None:
    assert jsonl(
        '{"step": 3, "val_loss": 2, "epoch": 1}', "", '{"step": 4, "train_loss": 1.5}'
    ) == [
        Reading(3, val_loss=2.0),
        Reading(4, train_loss=1.5),
    ]


def test_a_missing_step_counts_up_from_the_last() -> None:
    steps = [None, None, 10, None, 7, None]
    lines = [json.dumps({"step": step, "train_loss": 1.0}) for step in steps]
    assert [r.step for r in jsonl(*lines)] == [0, 1, 10, 11, 7, 8]
    assert [r.step for r in table("loss", "1.0", "1.0")] == [0, 1]


def test_a_loss_is_found_under_its_usual_names() -> None:
    assert jsonl('{"loss": 1}') == table("loss", "1") == [Reading(0, 1.0)]
    both = table("step,train_loss_epoch,train_loss_step", "4,,2.5", "4,3.0,")
    assert both == [Reading(4, 2.5), Reading(4)]


def test_a_person_may_say_what_the_names_are() -> None:
    names = Names("it", "xent", "dev", "rate")
    wanted = [Reading(7, 1.0, 2.0, 0.1)]
    assert jsonl('{"it": 7, "xent": 1, "dev": 2, "rate": 0.1, "loss": 9}', names=names) == wanted
    assert table("rate,dev,loss,xent,it", "0.1,2,9,1,7", names=names) == wanted


def test_sparse_cells_are_missing_values() -> None:
    """As Lightning's CSVLogger writes them: one row per kind of metric."""
    text = (
        "epoch,lr-SGD,step,train_loss,val_loss",
        ",0.1,0,,",
        "0,,0,2.5,",
        "0,,49,,2.0",
        "1,,50, nan ,",
    )
    found = table(*text, names=Names(lr="lr-SGD"))
    assert repr(found) == repr(
        [Reading(0, lr=0.1), Reading(0, 2.5), Reading(49, val_loss=2.0), Reading(50, math.nan)]
    )


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm() -> None:
    assert list(json_lines([b'\xef\xbb\xbf{"loss": 1}\r\n'])) == [Reading(0, 1.0)]
    assert list(csv_rows([b"\xef\xbb\xbfloss,lr\r\n", b"1,2\r\n"])) == [Reading(0, 1.0, lr=2.0)]


@pytest.mark.parametrize("reader", [json_lines, csv_rows])
def test_no_lines_are_no_readings(reader: Reader) -> None:
    assert list(reader([], None)) == []


@pytest.mark.parametrize(
    ("reader", "first"), [(json_lines, [b'{"loss": 1}\n']), (csv_rows, [b"loss\n", b"1\n"])]
)
def test_a_reading_is_there_before_the_next_line_is_asked_for(
    reader: Reader, first: list[bytes]
) -> None:
    def lines() -> Iterator[bytes]:
        yield from first
        raise AssertionError("it asked for another line")

    assert next(reader(lines(), None)) == Reading(0, 1.0)


# -- what is refused


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("loss 1.0", "not JSON (Expecting value at character 1)"),
        ('{"train_loss": 1.0', "not JSON"),
        ("[1, 2]", "not a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"train_loss": "low"}', "'train_loss' is 'low', not a number"),
        ('{"val_loss": true}', "'val_loss' is True, not a number"),
        ('{"lr": [0.1]}', "'lr' is [0.1], not a number"),
        (f'{{"loss": 1{"0" * 400}}}', "'loss' is an integer that no float can hold"),
        ('{"step": 1.5}', "the step is 1.5, not a whole number from 0 on"),
        ('{"step": -1}', "the step is -1.0"),
        ('{"step": "NaN"}', "the step is nan"),
        ('{"step": "Infinity"}', "the step is inf"),
    ],
)
def test_a_bad_line_is_named_with_its_content_and_what_was_expected(
    line: str, problem: str
) -> None:
    text = refusal(lambda: jsonl('{"train_loss": 1.0}', "", line))
    assert text.startswith("line 3: ")
    assert problem in text
    assert line[:150] in text
    assert "expected one JSON object per line" in text
    assert len(text) < 600


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("1,low", "'loss' is 'low', not a number"),
        ("1.5,2", "the step is 1.5"),
        ("1", "1 cells under a header of 2"),
        ("1,2,3", "3 cells under a header of 2"),
    ],
)
def test_a_bad_row_is_named_with_its_content_and_what_was_expected(row: str, problem: str) -> None:
    text = refusal(lambda: table("step,loss", "0,1", row))
    assert text.startswith("line 3: ")
    assert problem in text
    assert row in text
    assert "expected a row of step,loss" in text


@pytest.mark.parametrize("reader", [json_lines, csv_rows])
def test_bytes_that_are_no_text_are_refused(reader: Reader) -> None:
    text = refusal(lambda: list(reader([b"\xff\xfe{\x00\n"], None)))
    assert text.startswith("line 1: not UTF-8")


def test_a_column_that_is_not_there_is_refused_with_those_that_are() -> None:
    text = refusal(lambda: table("step,loss", names=Names(val_loss="dev")))
    assert text == "no column 'dev' (--val-loss); the columns are step, loss"
    text = refusal(lambda: table("it,xent", "1,2"))
    assert "no column that is known to hold a loss; the columns are it, xent" in text


def test_lines_without_any_loss_are_refused_with_the_fields_that_are_there() -> None:
    text = refusal(lambda: jsonl('{"it": 1}', '{"it": 2, "xent": 3}'))
    assert "no line has a field for a loss" in text
    assert "the fields are it, xent" in text
    assert "--train-loss" in text
    assert jsonl('{"step": 1}', '{"step": 2, "loss": null}') == [Reading(1), Reading(2)]


@given(st.lists(st.text() | st.binary()))
def test_whatever_the_lines_are_nothing_else_is_raised(lines: list[str | bytes]) -> None:
    raw = [x if isinstance(x, bytes) else x.encode("utf-8", "surrogatepass") for x in lines]
    for reader in (json_lines, csv_rows):
        with suppress(BadInput):
            list(reader(raw))
