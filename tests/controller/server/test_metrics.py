"""Metrics of a real daemon, as Prometheus reads them, and the dashboard that draws them."""

import json
import math
import re
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lrpilot_controller.buckets import BOUNDS_S, Buckets
from lrpilot_proto.v1 import model_pb2, session_pb2
from support.daemon import Daemon, cli
from support.peer import Line, hello, session, telemetry

DASHBOARD = Path(__file__).parents[3] / "examples" / "deploy" / "grafana-dashboard.json"
Scrape = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        made = Daemon(Path(folder))
        made.start("--metrics-port", "0")
        yield made
        made.kill()


@pytest.fixture(scope="module")
def scraped(daemon: Daemon) -> Scrape:
    """What it tells once a run was rolled back, and another peer was refused."""
    able = session_pb2.Capabilities(snapshot=True, stop=True)
    with Line(daemon.address) as stranger:
        stranger.say(telemetry(1, [1.0]))
        assert stranger.refusal()[0] == "INVALID_ARGUMENT"
    with session(daemon.address, hello("exp-1", capabilities=able)) as line:
        first = session_pb2.SnapshotTaken(id=1, step=0, proven=True)
        line.say(session_pb2.Report(report_seq=1, before_seq=1, snapshot=first))
        line.say(telemetry(1, [1.0, 0.9, 1.1] * 20 + [math.nan] * 3))
        while (message := line.hear()).WhichOneof("body") != "decision":
            pass
        receipt = model_pb2.Receipt(
            decision_id=message.decision.id,
            status=model_pb2.DECISION_STATUS_APPLIED,
            applied_step=63,
            branch_after=1,
            lrs_before=[0.1],
            lrs_after=[0.03],
        )
        line.say(session_pb2.Report(report_seq=2, before_seq=64, receipt=receipt))
        while line.hear().acked_report < 2:
            pass
        return scrape(daemon)


def scrape(daemon: Daemon) -> Scrape:
    found = re.search(r"metrics on (http://127\.0\.0\.1:\d+/metrics)", daemon.log)
    assert found, daemon.log
    with urllib.request.urlopen(found[1], timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(scraped: Scrape, name: str, **labels: str) -> float:
    return scraped[f"lrpilot_{name}", tuple(sorted(labels.items()))]


def test_what_happened_is_counted(scraped: Scrape) -> None:
    assert value(scraped, "samples_received_total") == 63
    assert value(scraped, "telemetry_batches_total") == 1
    assert value(scraped, "reports_received_total") == 2
    assert value(scraped, "sessions_open") == 1
    assert value(scraped, "sessions_refused_total", code="INVALID_ARGUMENT") == 1
    assert value(scraped, "signals_total", kind="nonfinite") >= 1
    assert value(scraped, "receipts_total", status="applied") == 1
    assert value(scraped, "runs", state="tracking") == 1
    assert sum(v for (name, _), v in scraped.items() if name == "lrpilot_decisions_total") >= 1


def test_latencies_are_histograms_in_seconds(scraped: Scrape) -> None:
    for name, least in (
        ("ack_latency_seconds", 3),
        ("decision_latency_seconds", 1),
        ("journal_commit_seconds", 3),
    ):
        assert value(scraped, f"{name}_count") >= least
        assert value(scraped, f"{name}_bucket", le="+Inf") == value(scraped, f"{name}_count")
        assert value(scraped, f"{name}_sum") > 0


def test_the_process_and_the_journal_tell_their_size(scraped: Scrape) -> None:
    assert value(scraped, "journal_size_bytes") > 4096
    assert value(scraped, "journal_generation") == 1
    assert scraped["process_resident_memory_bytes", ()] > 1e6


def test_names_follow_the_conventions_and_carry_no_runs_name(scraped: Scrape) -> None:
    for name, labels in scraped:
        if name.startswith("lrpilot_"):
            assert re.fullmatch(r"lrpilot_[a-z_]+", name)
            assert not any("exp-1" in word for _, word in labels)


def test_every_metric_of_the_dashboard_is_one_that_a_daemon_tells(scraped: Scrape) -> None:
    there = {name for name, _ in scraped}
    # Nothing of these has happened in the run above.
    there |= {"lrpilot_outcomes_total", "lrpilot_proposals_refused_total"}
    asked = {name for expression in expressions() for name in names_in(expression)}
    assert len(asked) > 20
    assert asked <= there


def expressions() -> list[str]:
    board = json.loads(DASHBOARD.read_text())

    def inside(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for key, item in value.items():
                if key in ("expr", "query") and isinstance(item, str):
                    yield item
                else:
                    yield from inside(item)
        elif isinstance(value, list):
            for item in value:
                yield from inside(item)

    return list(inside(board))


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:lrpilot|process)_[a-z_]+", expression))


def test_the_dashboard_is_one_that_grafana_can_load() -> None:
    board = json.loads(DASHBOARD.read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & places, f"{panel['title']} covers another panel"
        places |= cells
        assert panel["type"] == "row" or panel["targets"]


def test_without_the_option_nothing_listens(daemon: Daemon, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        other = Daemon(Path(folder))
        other.start()
        other.kill()
        assert "metrics on" not in other.log


def test_a_port_that_is_taken_is_an_error(daemon: Daemon) -> None:
    found = re.search(r"metrics on http://127\.0\.0\.1:(\d+)", daemon.log)
    assert found
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        where = ["--listen", f"unix:{folder}/d.sock", "--storage", f"{folder}/store"]
        done = cli("serve", *where, "--metrics-port", found[1])
    assert done.returncode == 1
    assert f"--metrics-port {found[1]}" in done.stderr
    assert "Traceback" not in done.stderr


def test_metrics_for_other_hosts_are_warned_of() -> None:
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        open_ = Daemon(Path(folder))
        open_.start("--metrics-port", "0", "--metrics-host", "0.0.0.0")
        open_.kill()
        assert "they have no password" in open_.log


def test_buckets_are_cumulated() -> None:
    buckets = Buckets()
    for seconds in (0.0, BOUNDS_S[0], 0.002, 99.0):
        buckets.add(seconds)
    found, total = buckets.cumulated()
    counts = dict(found)
    assert counts[str(BOUNDS_S[0])] == 2
    assert counts["0.0025"] == 3
    assert counts["10.0"] == 3
    assert counts["+Inf"] == 4
    assert total == pytest.approx(99.0025)
