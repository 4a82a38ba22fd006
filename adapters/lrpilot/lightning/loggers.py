"""The loggers of a Trainer, as a place to write what LRPilot does."""

from typing import Any

from lrpilot.diary import Metrics, Target


def loggers_of(trainer: Any) -> Target:
    """Those that the fit has when something is written, as often as it logs by itself.

    Its axis counts the batches that stepped, which is not the pilot's count where a fit goes on
    from a checkpoint that LRPilot had no part in.
    """

    def write(metrics: Metrics, _: int, words: str) -> None:
        step = trainer.fit_loop.epoch_loop._batches_that_stepped
        for logger in trainer.loggers:
            logger.log_metrics(metrics=dict(metrics), step=step)
            if words and callable(add_text := getattr(logger.experiment, "add_text", None)):
                add_text("lrpilot/decision", words, step)

    return Target(write, trainer.log_every_n_steps)
