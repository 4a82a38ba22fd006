"""What a fit is asked before its first step: can it be controlled, and searched, and how long."""

import inspect
import logging
import math
from typing import Any

from lrpilot.lightning.packages import callbacks_named

log = logging.getLogger("lrpilot")

# Callbacks beside which a search would be wrong.
AGAINST_SEARCH = {
    "WeightAveraging": "would average the weights of a search's programs",
    "StochasticWeightAveraging": "sets an LR of its own, which a search's plan would replace",
}


def observes_only(trainer: Any) -> str:
    """Why this fit cannot be controlled yet; empty where it can."""
    kinds = {kind.__name__ for kind in type(trainer.strategy).__mro__}
    # DeepSpeed's is a child of DDP's, and keeps parameters and states in parts of its own.
    if trainer.world_size == 1 or ("DDPStrategy" in kinds and "DeepSpeedStrategy" not in kinds):
        return ""
    return f"{trainer.world_size} ranks under {type(trainer.strategy).__name__}, not DDP"


def why_no_search(trainer: Any, pl_module: Any) -> str:
    """Why this fit can be controlled but not searched; empty where it can."""
    if "dataloader_iter" in inspect.signature(pl_module.training_step).parameters:
        return "training_step takes dataloader_iter, and no batch can be served to it"
    for name, why in AGAINST_SEARCH.items():
        for callback in callbacks_named(trainer, name):
            return f"{type(callback).__name__} {why}"
    return ""


def warn_of_finite_checks(trainer: Any) -> None:
    """EarlyStopping ends a run at its first non-finite validation, before it can be rescued."""
    for callback in callbacks_named(trainer, "EarlyStopping"):
        if callback.check_finite:
            log.warning(
                "LRPilot: EarlyStopping(check_finite=True) ends the run at a non-finite %s, maybe "
                "before a rollback arrives; EarlyStopping(..., check_finite=False) leaves it to us",
                callback.monitor,
            )


def horizon(trainer: Any, *, resumed: bool) -> int | None:
    """The optimizer steps that the run will make, as Lightning estimates them; None if unknown.

    Lightning's `max_steps` counts the steps of each optimizer; ours are those of a batch, whoever
    stepped. Those that the trainer made before are of this run only where it was resumed.
    """
    try:
        estimate = trainer.estimated_stepping_batches
    except Exception as error:  # accumulation that changes from epoch to epoch, in some versions
        log.debug("LRPilot: the horizon is not known: %r", error)
        return None
    for averaging in callbacks_named(trainer, "StochasticWeightAveraging"):
        if trainer.max_epochs > 0:  # one of them may have been added, in which no step is made
            estimate *= min(1.0, (averaging.swa_end + 1) / trainer.max_epochs)
    optimizers = len(trainer.optimizers)
    if trainer.max_steps > 0:
        estimate = min(estimate, math.ceil(trainer.max_steps / optimizers))
    if not resumed:
        estimate -= trainer.global_step // optimizers
    return int(estimate) if math.isfinite(estimate) and estimate >= 1 else None


def found_lrs(trainer: Any) -> list[float] | None:
    """The base LRs that Lightning's LR finder found; None where it did not look.

    It writes the LR of the first step, and leaves `initial_lr` at what the schedule began with.
    """
    if not any(one.optimal_lr for one in callbacks_named(trainer, "LearningRateFinder")):
        return None
    groups = trainer.optimizers[0].param_groups
    lrs = [float(group["lr"]) for group in groups]
    for config in trainer.lr_scheduler_configs:
        began = zip(groups, config.scheduler.get_last_lr(), strict=True)
        warmup = [float(group["initial_lr"]) / float(lr) if lr else 1.0 for group, lr in began]
        lrs = [lr * factor for lr, factor in zip(lrs, warmup, strict=True)]
    return lrs


def trains_no_more(trainer: Any) -> bool:
    """Whether this epoch is the one that SWA adds, to fit batch norm to the averaged weights."""
    return any(
        trainer.current_epoch > callback.swa_end
        for callback in callbacks_named(trainer, "StochasticWeightAveraging")
    )
