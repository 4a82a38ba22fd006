"""Metrics for Prometheus: read from plain numbers when they are asked for.

No metric carries a run's name: runs come and go by the thousand, and each would be a series for
ever. `lrpilot watch RUN` and the journal tell of one run.
"""

import ipaddress
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from lrpilot_controller.buckets import Buckets
from lrpilot_controller.errors import ConfigError
from lrpilot_controller.server.parts import Parts
from lrpilot_controller.server.vitals import size_of
from lrpilot_controller.version import VERSION

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Readings(Collector):
    """What the daemon's parts have to tell."""

    parts: Parts

    def collect(self) -> Iterator[Metric]:
        """Every metric, as it stands now."""
        yield InfoMetricFamily("lrpilot_build", "This LRPilot.", value={"version": VERSION})
        yield from self._sessions()
        yield from self._decisions()
        yield from self._journal()
        yield from self._process()

    def _sessions(self) -> Iterator[Metric]:
        tally, sessions = self.parts.runs.tally, self.parts.sessions
        yield _gauge("sessions_open", "Trainers connected now.", sessions.active)
        yield _counter("sessions_opened", "Sessions that were opened.", sessions.opened)
        yield _by("sessions_refused", "Sessions that were refused.", "code", tally.sessions_refused)
        runs = GaugeMetricFamily("lrpilot_runs", "Runs with a trainer.", labels=["state"])
        for state, count in self.parts.runs.states().items():
            runs.add_metric([state], count)
        yield runs
        yield _gauge("watchers", "Calls of lrpilot watch.", self.parts.watching.watchers)
        yield _counter("samples_received", "Losses that were journaled.", tally.samples)
        yield _counter("telemetry_batches", "Messages that they came in.", tally.batches)
        yield _counter("reports_received", "Receipts, snapshots and such.", tally.reports)
        yield _histogram(
            "ack_latency_seconds", "From a message's arrival until it is acknowledged.", tally.acks
        )

    def _decisions(self) -> Iterator[Metric]:
        tally = self.parts.runs.tally
        yield _by("signals", "What detectors saw.", "kind", tally.signals)
        decided = CounterMetricFamily(
            "lrpilot_decisions",
            "Decisions, and what the mode made of them.",
            labels=["action", "status"],
        )
        for (action, status), count in dict(tally.decided).items():
            decided.add_metric([action, status], count)
        yield decided
        yield _by("receipts", "Trainers' answers to decisions.", "status", tally.answered)
        yield _by("proposals_refused", "By the guardrails.", "signal", tally.refused)
        yield _by("outcomes", "What decisions did to the loss.", "verdict", tally.outcomes)
        yield _counter("rollbacks", "Rollbacks that trainers carried out.", tally.rollbacks)
        yield _histogram(
            "decision_latency_seconds",
            "From the arrival of the evidence until the decision is journaled.",
            tally.decisions_made,
        )

    def _journal(self) -> Iterator[Metric]:
        size = size_of(self.parts.journal.place)
        yield _gauge("journal_size_bytes", "The journal on disk.", size)
        yield _gauge(
            "journal_generation", "How often it was opened.", self.parts.journal.generation
        )
        yield _histogram(
            "journal_commit_seconds", "One transaction of the journal.", self.parts.writer.commits
        )
        yield _counter("journal_failures", "Transactions that failed.", self.parts.writer.failures)
        yield _gauge(
            "recorder_queue_length", "Runs to copy to Optuna.", self.parts.recorder.waiting
        )
        yield _counter("recorder_faults", "Copying to Optuna failed.", self.parts.recorder.faults)

    def _process(self) -> Iterator[Metric]:
        pace = self.parts.pace
        yield _gauge("event_loop_lag_seconds", "How late a tick comes, lately.", pace.late_s)
        yield _gauge("busy_ratio", "Share of one core that is used, lately.", pace.busy)
        yield _gauge(
            "flush_interval_seconds",
            "Asked of trainers between two messages; 0: as they like.",
            pace.flush_ms / 1000,
        )


@contextmanager
def exposed(parts: Parts, host: str, port: int) -> Iterator[int]:
    """Serve the metrics over HTTP, on a thread of its own; the port, where 0 was asked for.

    Raises:
        ConfigError: it cannot listen there.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Readings(parts))
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--metrics-port {port} on {host}: {error}: choose another, or end what listens there"
        ) from error
    if not _is_loopback(host):
        log.warning(
            "metrics on %s are for everybody who can reach this host: they have no password; they "
            "tell counts and times, no run's name",
            host,
        )
    log.info("metrics on http://%s:%d/metrics", host, server.server_port)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"lrpilot_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"lrpilot_{name}", text, value=value)


def _by(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"lrpilot_{name}", text, labels=[label])
    for word, count in dict(counts).items():  # a copy: the event loop goes on counting
        family.add_metric([word], count)
    return family


def _histogram(name: str, text: str, buckets: Buckets) -> Metric:
    found, total = buckets.cumulated()
    family = HistogramMetricFamily(f"lrpilot_{name}", text)
    family.add_metric([], buckets=found, sum_value=total)
    return family
