"""A fixed piece of pure Python, so that figures of different machines can be compared.

Quote a cost as a multiple of it where the machine is not named.
"""

import time

UPDATES = 100
ROUNDS = 200


def reference_us(repeats: int = 7) -> float:
    """Microseconds for 100 updates of a dict; the best of some repeats."""
    return min(_round_us() for _ in range(repeats))


def _round_us() -> float:
    counts: dict[int, int] = {}
    begin = time.perf_counter_ns()
    for _ in range(ROUNDS):
        for key in range(UPDATES):
            counts[key] = key
    return (time.perf_counter_ns() - begin) / (1000 * ROUNDS)


def main() -> dict[str, float]:
    """Print it; every result file holds it."""
    found = {"reference_us": reference_us()}
    print(f"reference: {UPDATES} dict updates take {found['reference_us']:.2f} us")
    return found
