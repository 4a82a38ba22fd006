"""A trainer whose LR is searched, from a base that is far too high. Arguments: address, run."""

import json
import sys
import time

from support.daemon import until
from support.digits import STEPS, attach, digits, train
from support.training import quiet_threads


def main(address: str, run: str) -> None:
    """Train, and say what came of it."""
    quiet_threads()
    one = digits(100.0)
    with attach(one, address, run, connect_timeout=60) as pilot:

        def after_step(made: int) -> None:
            if pilot.searching:  # long enough to be found in it
                time.sleep(0.03)
            if made == STEPS - 100:
                until(lambda: pilot.summary().connected)

        train(one, pilot, pause_s=0.003, after_step=after_step)
        steps = pilot.step_count
    print(json.dumps({"steps": steps, "loss": one.loss()}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
