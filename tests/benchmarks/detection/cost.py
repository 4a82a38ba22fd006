"""What a sample costs in the detectors, and that their memory does not grow with a run."""

import json
import random
import time

from tests.benchmarks.reference import reference_us

from lrpilot_controller.core.detectors import Detectors

BATCH = 256
ROUNDS = 400


def losses(count: int, seed: int = 0) -> list[float]:
    """A descent with noise, as most samples are."""
    rng = random.Random(seed)
    return [0.5 + 2.0 / (1 + step / 300) ** 0.5 + rng.gauss(0, 0.05) for step in range(count)]


def sample_us(repeats: int = 5) -> tuple[float, float]:
    """Microseconds of CPU per sample, amortised over batches of 256, and the reference beside it.

    Interleaved; the best of some repeats of each, since the machine's other work comes on top.
    """
    stream = losses(BATCH * ROUNDS)
    best, reference = float("inf"), float("inf")
    for _ in range(repeats):
        detectors = Detectors()
        reference = min(reference, reference_us(1))
        spent = 0
        for first in range(0, len(stream), BATCH):
            batch = stream[first : first + BATCH]
            begin = time.process_time_ns()
            for step, loss in enumerate(batch, first):
                detectors.update(step, loss, None, 0.1)
            spent += time.process_time_ns() - begin
        best = min(best, spent / (1000 * len(stream)))
    return best, reference


def state_sizes(samples: int) -> dict[int, int]:
    """Bytes of the detectors' whole state, as JSON, after powers of ten samples up to so many."""
    detectors, rng = Detectors(), random.Random(0)
    sizes, mark = {}, 10_000
    for step in range(1, samples + 1):
        loss = 0.5 + 2.0 / (1 + step / 300) ** 0.5 + rng.gauss(0, 0.05)
        detectors.update(step, loss, loss if step % 1000 == 0 else None, 0.1)
        if step == mark:
            sizes[step] = len(json.dumps(detectors.state_dict()))
            mark *= 10
    return sizes
