"""A daemon of a few lines: journals to a file, acknowledges, and does as its script says.

Run as a process, so that a test can kill it or freeze it. The journal is written before anything
is acknowledged, one JSON line per sample or report.
"""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

from lrpilot_proto.v1 import model_pb2, session_pb2, session_pb2_grpc


class Journal:
    """What arrived, by attempt."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last: dict[str, int] = {}
        self.last_report: dict[str, int] = {}
        for line in read(path):
            table = self.last if line["kind"] == "item" else self.last_report
            if line["kind"] in ("item", "report"):
                table[line["attempt"]] = line["seq"]

    def write(self, lines: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, text.encode())
        os.close(fd)


def read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a journal."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


class Service(session_pb2_grpc.SessionServiceServicer):
    """Answers by the script."""

    def __init__(self, journal: Journal, script: argparse.Namespace) -> None:
        self.journal = journal
        self.script = script
        self.generation = script.generation

    def Session(
        self, request_iterator: Iterator[session_pb2.TrainerMessage], context: Any
    ) -> Iterator[session_pb2.ControllerMessage]:
        script, journal = self.script, self.journal
        hello = next(request_iterator).hello
        attempt = hello.attempt
        journal.write(
            [
                {
                    "kind": "hello",
                    "attempt": attempt,
                    "seq": 0,
                    "oldest": hello.oldest_seq,
                    "last_decision": hello.last_decision_id,
                }
            ]
        )
        if script.refuse:
            context.abort(getattr(grpc.StatusCode, script.refuse), "the script says no")

        def message(**body: Any) -> session_pb2.ControllerMessage:
            return session_pb2.ControllerMessage(
                generation=self.generation,
                acked_seq=journal.last.get(attempt, 0) + script.confuse,
                acked_report=journal.last_report.get(attempt, 0),
                flush_ms=script.flush_ms,
                **body,
            )

        welcome = session_pb2.Welcome(daemon_version="scripted", mode=model_pb2.MODE_AUTO)
        yield message(welcome=welcome)
        for number in script.decisions:
            yield message(decision=model_pb2.Decision(id=number))
        for number in range(script.signals):
            yield message(signal=model_pb2.Signal(kind="spike", step=number))
        if script.stale:
            stale = message(decision=model_pb2.Decision(id=1000))
            stale.generation -= 1
            yield stale
            yield message(proven=session_pb2.SnapshotProven(id=7))
        for request in request_iterator:
            if not script.silent:
                self.take(attempt, request)
                yield message()

    def take(self, attempt: str, request: session_pb2.TrainerMessage) -> None:
        lines: list[dict[str, Any]] = []
        now = time.time()
        if request.HasField("telemetry"):
            columns = request.telemetry
            for row, step in enumerate(columns.step):
                seq = columns.first_seq + row
                if seq > self.journal.last.get(attempt, 0):
                    lines.append(
                        {
                            "kind": "item",
                            "attempt": attempt,
                            "seq": seq,
                            "step": step,
                            "lrs": len(columns.lrs),
                            "dropped": columns.dropped_total,
                            "at": now,
                        }
                    )
                    self.journal.last[attempt] = seq
        elif request.HasField("report"):
            report = request.report
            if report.report_seq > self.journal.last_report.get(attempt, 0):
                lines.append(
                    {
                        "kind": "report",
                        "attempt": attempt,
                        "seq": report.report_seq,
                        "before": report.before_seq,
                        "what": report.WhichOneof("body"),
                        "at": now,
                    }
                )
                self.journal.last_report[attempt] = report.report_seq
        self.journal.write(lines)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--generation", type=int, default=1)
    parser.add_argument("--decisions", type=int, nargs="*", default=[])
    parser.add_argument("--signals", type=int, default=0)
    parser.add_argument("--refuse", help="a grpc status code")
    parser.add_argument("--flush-ms", type=int, default=0)
    parser.add_argument("--confuse", type=int, default=0, help="added to every acked_seq")
    parser.add_argument("--stale", action="store_true", help="send one decision of the past")
    parser.add_argument("--silent", action="store_true", help="neither journal nor acknowledge")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Serve until killed."""
    script = parse(arguments)
    server = grpc.server(
        futures.ThreadPoolExecutor(8),
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 5000),
        ],
    )
    service = Service(Journal(script.journal), script)
    add = session_pb2_grpc.add_SessionServiceServicer_to_server
    add(service, server)  # type: ignore[no-untyped-call]
    server.add_insecure_port(script.listen)
    server.start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1:])
