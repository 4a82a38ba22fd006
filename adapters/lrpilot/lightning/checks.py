"""What keeps a fit from being controlled or searched, told before its first step."""

import inspect
import logging

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EarlyStopping

log = logging.getLogger("lrpilot")


def observes_only(trainer: pl.Trainer, pl_module: pl.LightningModule) -> str:
    """Why this fit cannot be controlled yet; empty where it can."""
    if not pl_module.automatic_optimization:
        return "manual optimization"
    if len(trainer.optimizers) > 1:
        return f"{len(trainer.optimizers)} optimizers"
    if trainer.world_size > 1:
        return f"{trainer.world_size} ranks"
    return ""


def why_no_search(trainer: pl.Trainer, pl_module: pl.LightningModule) -> str:
    """Why this fit can be controlled but not searched; empty where it can."""
    if "dataloader_iter" in inspect.signature(pl_module.training_step).parameters:
        return "training_step takes dataloader_iter, and no batch can be served to it"
    for callback in callbacks_of(trainer):
        # By name: Lightning has it since 2.6 only.
        if any(kind.__name__ == "WeightAveraging" for kind in type(callback).__mro__):
            return f"{type(callback).__name__} would average the weights of a search's programs"
    return ""


def warn_of_finite_checks(trainer: pl.Trainer) -> None:
    """EarlyStopping ends a run at its first non-finite validation, before it can be rescued."""
    for callback in callbacks_of(trainer):
        if isinstance(callback, EarlyStopping) and callback.check_finite:
            log.warning(
                "LRPilot: EarlyStopping(check_finite=True) ends the run at a non-finite %s, maybe "
                "before a rollback arrives; EarlyStopping(..., check_finite=False) leaves it to us",
                callback.monitor,
            )


def callbacks_of(trainer: pl.Trainer) -> list[Callback]:
    """The callbacks of a trainer."""
    return list(trainer.callbacks)  # type: ignore[attr-defined]
