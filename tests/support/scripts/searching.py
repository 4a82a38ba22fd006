"""A trainer whose LR is searched, from a base that is far too high.

Arguments: address, run, and a file for a checkpoint of the search's beginning, if one is wanted.
"""

import json
import os
import sys
import time
from pathlib import Path

import torch

from support.daemon import until
from support.digits import STEPS, attach, digits, train
from support.training import quiet_threads

SAVED = 20


def main(address: str, run: str, checkpoint: str = "") -> None:
    """Train, and say what came of it."""
    quiet_threads()
    one = digits(100.0)
    with attach(one, address, run, connect_timeout=60) as pilot:

        def after_step(made: int) -> None:
            if checkpoint and made == SAVED:
                state = {
                    "model": one.task.model.state_dict(),
                    "optimizer": one.optimizer.state_dict(),
                }
                torch.save({"pilot": pilot.state_dict(), **state}, f"{checkpoint}.new")
                os.replace(f"{checkpoint}.new", Path(checkpoint))
            if pilot.searching:  # long enough to be found in it
                time.sleep(0.03)
            if made == STEPS - 100:
                until(lambda: pilot.summary().connected)

        train(one, pilot, pause_s=0.003, after_step=after_step)
        steps = pilot.step_count
    print(json.dumps({"steps": steps, "loss": one.loss()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
