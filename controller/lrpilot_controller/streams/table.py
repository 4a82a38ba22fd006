"""CSV with a header row, as they arrive; Lightning's `metrics.csv` is one."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence

from lrpilot_controller.streams.reading import (
    BadInput,
    Names,
    Reading,
    StepCounter,
    bad_line,
    text_lines,
)


def csv_rows(lines: Iterable[bytes], names: Names | None = None) -> Iterator[Reading]:
    """One reading per row, as soon as the row is there; an empty cell is a missing value.

    Args:
        lines: UTF-8, the first of them the header.
        names: what the header calls the columns. Those not named may be missing, but not both
            losses.

    Raises:
        BadInput: there is no such column, or a row is not what was expected.
    """
    rows = csv.reader(text_lines(lines), skipinitialspace=True)
    try:
        header = next(rows, None)
        if header is None:
            return
        columns = _columns([name.strip() for name in header], names or Names())
        counter = StepCounter()
        for row in rows:
            if row:
                yield _reading(row, rows.line_num, header, columns, counter)
    except csv.Error as error:
        raise BadInput(f"line {rows.line_num}: not CSV: {error}") from error


def _columns(header: Sequence[str], names: Names) -> dict[str, int]:
    """Which column holds which part of a reading."""
    there = f"the columns are {', '.join(header)}"
    found: dict[str, int] = {}
    for part, candidates in names.candidates().items():
        column = next((name for name in candidates if name in header), None)
        if column is not None:
            found[part] = header.index(column)
        elif getattr(names, part) is not None:
            option = part.replace("_", "-")
            raise BadInput(f"no column {candidates[0]!r} (--{option}); {there}")
    if not {"train_loss", "val_loss"} & found.keys():
        raise BadInput(
            f"no column that is known to hold a loss; {there}: name yours with --train-loss or "
            "--val-loss"
        )
    return found


def _reading(
    row: Sequence[str],
    line: int,
    header: Sequence[str],
    columns: Mapping[str, int],
    counter: StepCounter,
) -> Reading:
    try:
        if len(row) != len(header):
            raise ValueError(f"{len(row)} cells under a header of {len(header)}")
        values = {part: _number(row[i], header[i]) for part, i in columns.items()}
        return Reading(counter.of(values.pop("step", None)), **values)
    except ValueError as error:
        expected = f"a row of {','.join(header)}, with numbers or empty cells"
        bad_line(line, ",".join(row), str(error), expected)


def _number(cell: str, name: str) -> float | None:
    cell = cell.strip()
    if not cell:
        return None
    try:
        return float(cell)
    except ValueError:
        raise ValueError(f"{name!r} is {cell!r}, not a number") from None
