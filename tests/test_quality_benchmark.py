"""The quality benchmark's arithmetic: what is kept of a run, what is missing, what tables say."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.quality import (
    ablations,
    bootstrap,
    daemons,
    markdown,
    oracle,
    quick,
    runs,
    store,
    table,
)
from benchmarks.quality.outcome import Outcome, row
from benchmarks.quality.store import Cell


def kept_row(cell: Cell, excess: float, **others: Any) -> dict[str, Any]:
    final = None if excess >= 1 else 0.1 + excess
    ratio = final and final / 0.1
    place = {"task": cell.task, "seed": cell.seed, "base": cell.base, "steps": cell.steps}
    numbers = {"final": final, "excess": excess, "ratio": ratio}
    return place | numbers | {"versions": "torch 2", "commit": "abc"} | others


def table_of(*rows: dict[str, Any]) -> dict[Cell, dict[str, Any]]:
    return {store.cell_of(row): row for row in rows}


# -- one run


def test_a_row_holds_excess_and_ratio_and_leaves_out_what_is_zero() -> None:
    assert row(Outcome(0.75), oracle=0.5, uninformed=2.5) == {
        "final": 0.75,
        "excess": 0.125,
        "ratio": 1.5,
    }
    told = row(Outcome(0.4, steps_outside=9, lr=0.12345678, waits=2, wait_s=0.5), 0.5, 2.5)
    assert told["excess"] == -0.05
    assert (told["outside"], told["lr"], told["waits"], told["wait_s"]) == (9, 0.123457, 2, 0.5)
    assert "declined" not in told


@pytest.mark.parametrize("final", [math.inf, math.nan])
def test_a_lost_run_has_learned_nothing_and_is_strict_json(final: float) -> None:
    lost = row(Outcome(final, declined=True), oracle=0.5, uninformed=2.5)

    assert lost == {"final": None, "excess": 1.0, "ratio": None, "declined": True}
    assert json.loads(json.dumps(lost, allow_nan=False)) == lost


# -- base LRs


def test_the_base_lr_is_another_seeds_best() -> None:
    assert [oracle.other_seed(seed) for seed in oracle.SEEDS] == [2, 3, 4, 5, 1]
    assert [oracle.other_seed(seed) for seed in oracle.DESIGN_SEEDS] == [101, 100]
    assert [oracle.other_seed(seed, long=True) for seed in (1, 2, 3, 100)] == [2, 3, 1, 1]

    seeds = {str(seed): {"best": {"lr": 0.1 * seed}} for seed in (1, 2)}
    steps = oracle.load("digits_mlp")["steps"]
    assert runs.base_lr(Cell("digits_mlp", 1, 10.0, steps), seeds) == pytest.approx(2.0)
    assert runs.base_lr(Cell("digits_mlp", 1, None, steps), seeds) == pytest.approx(0.2)


# -- what is kept, and what is missing


def test_what_is_kept_is_not_run_again(tmp_path: Path) -> None:
    def left() -> list[tuple[str, int, list[float | None]]]:
        units = runs.missing(["cosine", "prodigy"], ["digits_mlp"], [1, 2], folder=tmp_path)
        return [(u.method, u.cells[0].seed, [cell.base for cell in u.cells]) for u in units]

    bases = list(runs.BASES)
    everything = [("cosine", 1, bases), ("prodigy", 1, [None]), ("cosine", 2, bases)]
    assert left() == [*everything, ("prodigy", 2, [None])]

    cells = [Cell("digits_mlp", 1, base, 1000) for base in (*bases[:2], None)]
    store.append("cosine", [kept_row(cell, 0.1) for cell in cells[:2]], tmp_path)
    store.append("prodigy", [kept_row(cells[2], 0.1)], tmp_path)
    assert left() == [("cosine", 1, bases[2:]), ("cosine", 2, bases), ("prodigy", 2, [None])]


def test_the_long_form_is_kept_apart(tmp_path: Path) -> None:
    cell = Cell("digits_mlp", 1, 1.0, 1000)
    store.append("cosine", [kept_row(cell, 0.1)], tmp_path)
    kept = store.load("cosine", tmp_path)

    assert list(table.select(kept, long=False)) == [cell]
    assert not table.select(kept, long=True)
    assert not table.select(table_of(kept_row(Cell("digits_mlp", 100, 1.0, 1000), 0)), long=False)
    # A length without an oracle is not run.
    assert not runs.missing(["cosine"], ["digits_mlp"], [1], steps=77, folder=tmp_path)


def test_a_line_that_was_cut_short_is_measured_again(tmp_path: Path) -> None:
    one, two, three = (Cell("digits_mlp", seed, 1.0, 1000) for seed in (1, 2, 3))
    store.append("cosine", [kept_row(one, 0.1), kept_row(two, 0.2)], tmp_path)
    path = tmp_path / "cosine.jsonl"
    path.write_text(path.read_text()[:-20])
    assert list(store.load("cosine", tmp_path)) == [one]

    store.append("cosine", [kept_row(three, 0.3)], tmp_path)
    assert list(store.load("cosine", tmp_path)) == [one, three]


def test_measuring_again_forgets_and_the_last_row_counts(tmp_path: Path) -> None:
    one, two = (Cell("digits_mlp", seed, 1.0, 1000) for seed in (1, 2))
    store.append("cosine", [kept_row(one, 0.1), kept_row(two, 0.2), kept_row(one, 0.4)], tmp_path)
    assert store.load("cosine", tmp_path)[one]["excess"] == 0.4

    store.forget("cosine", [one], tmp_path)
    assert list(store.load("cosine", tmp_path)) == [two]
    store.forget("plateau", [one], tmp_path)
    assert store.load("plateau", tmp_path) == {}


def test_a_unit_is_measured_and_its_rows_say_with_what() -> None:
    steps = oracle.load("noisy_least_squares")["steps"]
    cells = tuple(Cell("noisy_least_squares", 1, base, steps) for base in (1.0, 100.0))
    good, lost = runs.measure(runs.Unit("constant", cells))

    assert good["excess"] == pytest.approx(0.27, abs=0.05)
    assert lost["final"] is None
    assert good["versions"].startswith("torch ")
    assert store.cell_of(good) == cells[0]


# -- intervals


def test_the_interval_of_the_mean_is_that_of_theory() -> None:
    generator = np.random.default_rng(1)
    cells = [[value] for value in generator.normal(5.0, 2.0, 400)]
    low, high = bootstrap.interval(cells, bootstrap.mean)
    middle = float(np.mean(cells))

    assert low < middle < high
    assert high - low == pytest.approx(2 * 1.96 * 2.0 / math.sqrt(400), rel=0.15)
    assert bootstrap.interval(cells, bootstrap.mean) == (low, high)


def test_runs_of_one_cell_are_drawn_together() -> None:
    values = [0.0, 1.0] * 20
    alone = bootstrap.interval([[value] for value in values], bootstrap.mean)
    together = bootstrap.interval([[value] * 6 for value in values], bootstrap.mean)

    assert together == pytest.approx(alone, abs=0.03)


def test_statistics() -> None:
    values = np.array([0.4, 0.1, 0.3, 0.2])

    assert bootstrap.mean(values) == 0.25
    assert bootstrap.share_above(0.3)(values) == 0.25
    assert bootstrap.share_within(0.3)(values) == 0.75
    assert bootstrap.percentile(0.5)(values) == 0.2
    assert bootstrap.percentile(0.95)(values) == 0.4
    assert bootstrap.percentile(0.95)(np.arange(1.0, 101.0)) == 95.0


# -- tables


def test_numbers_are_told_shortly() -> None:
    told = [markdown.number(value) for value in (0.0185, -0.0021, 1.0, -0.0001)]
    assert told == [".018", "-.002", "1.00", ".000"]
    assert [markdown.percent(share) for share in (0, 0.004, 0.25, 1)] == [
        "0 %",
        "0.4 %",
        "25 %",
        "100 %",
    ]


def test_a_summary_counts_lost_runs_and_near_ones() -> None:
    cells = [Cell("digits_mlp", seed, base, 1000) for seed in (1, 2) for base in (0.1, 1.0)]
    values = (0.0, 0.004, 0.1, 1.0)
    told = table.summary({"cosine": table_of(*map(kept_row, cells, values)), "plateau": {}})
    line = told.splitlines()[-1]

    assert line.startswith("| cosine | 4 | .276 [.002, .550] | 1.00 [")
    assert "| 25 % [0 %, 50 %] | 1 | 50 % [" in line
    assert "plateau" not in told


def test_methods_are_compared_with_the_tuned_cosine_in_the_same_cells() -> None:
    def at(excesses: dict[int, float], base: float | None) -> dict[Cell, dict[str, Any]]:
        cells = {Cell("digits_mlp", seed, base, 1000): x for seed, x in excesses.items()}
        return table_of(*(kept_row(cell, x) for cell, x in cells.items()))

    kept = {
        "cosine": at({1: 0.01, 2: 0.03, 3: 0.9}, 1.0) | at({1: 0.8}, 0.1),
        "prodigy": at({1: 0.02, 2: 0.04}, None),
        "plateau": at({1: 0.02, 2: 0.04}, 0.1),
    }
    lines = table.at_right_lr(kept).splitlines()[2:]

    assert lines[1] == "| prodigy | 2 | .030 [.020, .040] | .010 [.010, .010] |"
    assert [line.split()[1] for line in lines] == ["cosine", "prodigy"]


def test_declining_is_priced_against_guarding_only() -> None:
    cells = [Cell("digits_mlp", seed, 1.0, 1000) for seed in (1, 2)]
    plain = table_of(kept_row(cells[0], 0.3, declined=True), kept_row(cells[1], 0.01))
    guard = table_of(kept_row(cells[0], 0.2), kept_row(cells[1], 0.7))
    told = table.declined({"lrpilot-plain": plain, "lrpilot-guard": guard, "cosine": guard})

    assert told.splitlines()[2:] == [
        "| lrpilot-plain | 2 | 50 % [0 %, 100 %] | .300 [.300, .300] | .200 [.200, .200] |"
    ]


def test_an_ablation_is_compared_with_the_whole_in_the_same_cells() -> None:
    cells = [Cell("digits_mlp", seed, 1.0, 1000) for seed in (1, 2, 3)]
    whole = table_of(kept_row(cells[0], 0.1), kept_row(cells[1], 0.2))
    without = {"no-ladder": table_of(*(kept_row(cell, 0.4) for cell in cells)), "no-response": {}}
    told = table.ablations(whole, without)

    assert told.splitlines()[2:] == [
        "| no-ladder | 2 | .400 [.400, .400] | 100 % [100 %, 100 %] | .250 [.200, .300] |"
    ]


def test_what_is_taken_out_is_there() -> None:
    names = list(ablations.ABLATIONS)
    code = f"import runpy; a = runpy.run_path({ablations.__file__!r})['ABLATIONS']; "
    code += f"[a[name]() for name in {names}]"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_ablated_daemon_serves() -> None:
    with daemons.serving(["no-ladder"]) as folders:
        assert (folders["no-ladder"] / "d.sock").exists()


def test_costs_are_shares_of_the_horizon() -> None:
    cells = [Cell("digits_mlp", seed, 1.0, 1000) for seed in (1, 2, 3)]
    paid = [
        kept_row(c, 0.1, outside=n, waits=4, longest_wait_s=0.02)
        for c, n in zip(cells, (50, 100, 400), strict=True)
    ]
    told = table.costs({"lrpilot": table_of(*paid), "cosine": table_of(kept_row(cells[0], 0.1))})

    assert told.splitlines()[2:] == ["| lrpilot | 1000 | 3 | 10 % | 40 % | 4 | 20 ms | 0.00 s |"]


def test_a_report_is_made_of_whatever_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    steps = oracle.load("digits_mlp")["steps"]
    cells = [Cell("digits_mlp", seed, base, steps) for seed in (1, 2) for base in runs.BASES]
    store.append("cosine", [kept_row(cell, 0.1) for cell in cells])
    store.append("lrpilot", [kept_row(cells[0], 0.2, outside=100), kept_row(cells[7], 0.3)])
    store.append("prodigy", [kept_row(Cell("digits_mlp", 1, None, steps), 0.5)])
    told = table.report()

    assert told.index("| lrpilot | 2 |") < told.index("| cosine | 12 |")
    assert told.index("| cosine | 12 |") < told.index("| prodigy | 1 |")
    assert told.endswith("cells.")
    assert "T = 5000" not in told  # nothing is kept of it


# -- the form for continuous integration


@pytest.mark.parametrize(
    ("excesses", "complaints"),
    [
        ([0.02, -0.05, 0.15], 0),
        ([0.0, 0.0, 0.16], 1),
        ([0.07, 0.07, 0.07], 1),
        ([0.0, 1.0], 2),
    ],
)
def test_a_clear_regression_is_told(excesses: list[float], complaints: int) -> None:
    assert len(quick.verdict(excesses)) == complaints


def test_tables_are_put_between_the_marks_of_the_readme() -> None:
    page = table.README.read_text(encoding="utf-8")
    once = markdown.quote("| one |", page)

    assert "<!-- tables -->\n| one |\n<!-- end of tables -->" in once
    assert markdown.quote("| one |", once) == once
