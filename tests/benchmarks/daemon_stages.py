"""Where a sample's CPU time goes in the daemon, stage by stage, for small and large messages.

Each stage alone in this process, on the messages of one healthy run; best of some rounds. What a
message costs beside these (gRPC, the event loop, the hand-over between threads) shows in
`daemon_load`, whose total is measured on the daemon itself.
"""

import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.benchmarks._fleet import batch, descents, hello
from tests.benchmarks._report import save, table

from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.events import SessionOpened
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.journal import RunKey, SqlJournal
from lrpilot_controller.journal.codec import encode
from lrpilot_controller.plugins import make_detectors
from lrpilot_controller.server import convert
from lrpilot_proto.v1 import session_pb2

SIZES = (25, 100, 200)
STEPS = 4000
ROUNDS = 5
GROUP = 16  # runs in one transaction
ATTEMPT = convert.attempt_from(hello("stages").hello)


def main() -> dict[str, Any]:
    """Run it: half a minute."""
    rows = [measure(size) for size in SIZES]
    stages = [key for key in rows[0] if key.endswith("_us")]
    table(
        "CPU per sample in us, by stage and samples per message",
        ("stage", *(str(row["samples_per_message"]) for row in rows)),
        [(stage.removesuffix("_us"), *(row[stage] for row in rows)) for stage in stages],
    )
    return save("daemon_stages", {"sizes": rows})


def measure(size: int) -> dict[str, Any]:
    """All stages, with so many samples in a message."""
    losses = descents()[0][:STEPS]
    wire = [
        batch(first, losses[first : first + size]).SerializeToString()
        for first in range(0, STEPS - size + 1, size)
    ]
    messages = [session_pb2.TrainerMessage.FromString(data) for data in wire]
    samples = [convert.samples_from(message.telemetry, ATTEMPT) for message in messages]
    count = size * len(samples)
    encoding = _best(lambda: [encode(one) for one in samples])
    found = {
        "decode_us": _best(lambda: [session_pb2.TrainerMessage.FromString(w) for w in wire]),
        "convert_us": _best(lambda: [convert.samples_from(m.telemetry, ATTEMPT) for m in messages]),
        "journal_encode_us": encoding,
        "journal_write_us": max(0.0, _appending(samples) / GROUP - encoding),
        "detectors_us": _best(lambda: _detect(losses[:count])),
        "engine_us": _best(lambda: _feed(samples)),  # detectors included
    }
    return {"samples_per_message": size} | {
        stage: round(1e6 * seconds / count, 3) for stage, seconds in found.items()
    }


def _detect(losses: Iterable[float]) -> None:
    update = make_detectors(None, None).update
    for step, loss in enumerate(losses):
        update(step, loss, None, 0.1)


def _feed(samples: list[Samples]) -> None:
    engine = Engine(make_detectors=make_detectors)
    engine.feed(SessionOpened(ATTEMPT))
    for one in samples:
        engine.feed(one)


def _appending(samples: list[Samples]) -> float:
    """CPU seconds for the samples of `GROUP` runs, encoded and written."""
    runs = [RunKey("bench", str(number)) for number in range(GROUP)]
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        journal = SqlJournal.open(Path(folder) / "journal.db")
        begin = time.process_time()
        for one in samples:
            journal.append([(run, 0.0, one) for run in runs])
        used = time.process_time() - begin
        journal.close()
    return used


def _best(work: Callable[[], object]) -> float:
    """CPU seconds of the fastest round."""
    found = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return min(found)
