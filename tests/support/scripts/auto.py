"""A trainer that leaves it to LRPilot to find or start a daemon. Argument: run.

Ends when its standard input does, so that a test can have two of them at once.
"""

import sys

from support.training import attach, job, quiet_threads, train


def main(run: str) -> None:
    """Train a little, say what came of it, and wait with the session open."""
    quiet_threads()
    one = job()
    with attach(one, "auto", run, connect_timeout=60) as pilot:
        train(one, pilot, range(200))
        while not pilot.summary().connected:
            train(one, pilot, range(1), pause_s=0.005)
        print(pilot.step_count, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
