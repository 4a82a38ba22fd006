"""LRPilot in PyTorch Lightning: `Trainer(callbacks=[LRControllerCallback(...)])`."""

import difflib
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EarlyStopping
from torch import Tensor

from lrpilot.pilot import Pilot
from lrpilot.torch.options import Options
from lrpilot.torch.state import Stateful

log = logging.getLogger("lrpilot")

# Taken for the validation loss where `monitor` is not given.
USUAL_MONITOR = "val_loss"


class LRControllerCallback(Callback):
    r"""Guard a Lightning run: blow-ups are rolled back in memory and the learning rate is cut.

    The loss is what `training_step` returned, per optimizer step; the validation loss is
    `trainer.callback_metrics[monitor]`, read in `on_validation_end`. A rollback restores weights
    and optimizer state and leaves loops, loggers, dataloaders and `global_step` untouched.

    Manual optimization, several optimizers and several ranks are observed only, which is said
    once; `fast_dev_run` makes the callback inert.

    Args:
        monitor: name of the logged validation loss; `val_loss`, where it is logged, unless given.
            A missing one is said once and never stops the run.
        total_steps: optimizer steps of the run; what Lightning estimates unless given.
        project: as in :func:`lrpilot.attach`, like the other keywords.

    Raises:
        ValueError: an argument's value cannot be, with what is allowed.

    Example::

        >>> from lrpilot.lightning import LRControllerCallback
        >>> trainer = Trainer(callbacks=[LRControllerCallback(project="demo")])  # doctest: +SKIP

    .. note:: List it before ``LearningRateMonitor``, so that the monitor sees the LR applied.
    """

    def __init__(
        self,
        *,
        monitor: str | None = None,
        total_steps: int | None = None,
        steps_per_epoch: int | None = None,
        project: str = "default",
        run: str | None = None,
        stateful: Sequence[Stateful] = (),
        mode: str = "auto",
        search: bool | str = "auto",
        min_lr: float | None = None,
        max_lr: float | None = None,
        address: str = "auto",
        token: str | None = None,
        connect_timeout: float = 10.0,
    ) -> None:
        super().__init__()
        self._monitor = monitor
        self._stateful = stateful
        self._keywords: dict[str, Any] = {
            "total_steps": total_steps,
            "steps_per_epoch": steps_per_epoch,
            "project": project,
            "run": run,
            "mode": mode,
            "search": search,
            "min_lr": min_lr,
            "max_lr": max_lr,
            "address": address,
            "token": token,
            "connect_timeout": connect_timeout,
        }
        Options(**self._keywords)  # a bad argument is told here, not hours later
        self._pilot: Pilot | None = None
        self._loaded: dict[str, Any] | None = None
        self._loss = WindowLoss()
        self._global_step = 0
        self._missing_told = False

    @property
    def pilot(self) -> Pilot | None:
        """The pilot of the fit under way, or of the last one; None before the first."""
        return self._pilot

    # -- hooks of Lightning

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Attach, now that a checkpoint's optimizer state is in place."""
        if getattr(trainer, "fast_dev_run", False) or not trainer.optimizers:
            return
        optimizer = trainer.optimizers[0]
        why = _observes_only(trainer, pl_module)
        if why is not None:
            log.warning("LRPilot: %s: this version observes it and writes nothing", why)
        _warn_of_finite_checks(trainer)
        keywords = self._keywords | {"total_steps": self._horizon(trainer)}
        configs: list[Any] = [
            config
            for config in trainer.lr_scheduler_configs
            if config.scheduler.optimizer is optimizer
        ]
        self._pilot = Options(**keywords).build(
            optimizer,
            pl_module,
            schedulers=[config.scheduler for config in configs],
            stateful=self._stateful,
            request_stop=lambda: setattr(trainer, "should_stop", True),
            controls=why is None,
        )
        for config in configs:
            config.scheduler = _Unmoved(config.scheduler, optimizer)
        if self._loaded:
            self._pilot.load_state_dict(self._loaded)
            self._loaded = None  # of this fit alone
        self._loss = WindowLoss()
        self._global_step = trainer.global_step
        self._pilot.start()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Report the loss of an optimizer step once its last micro-batch is done."""
        pilot = self._pilot
        if pilot is None:
            return
        self._loss.add(outputs)
        if trainer.global_step == self._global_step:
            return
        self._global_step = trainer.global_step
        loss = self._loss.take(trainer.accumulate_grad_batches)
        if loss is not None:
            pilot.step(loss)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the validation loss."""
        if self._pilot is None or trainer.sanity_checking:
            return
        metrics = trainer.callback_metrics
        name = self._monitor or USUAL_MONITOR
        if name in metrics:
            self._pilot.validate(metrics[name])
        elif self._monitor is not None and not self._missing_told:
            self._missing_told = True
            near = difflib.get_close_matches(self._monitor, metrics)
            log.warning(
                "LRPilot: monitor=%r is not logged%s; logged are %s. Training goes on without it",
                self._monitor,
                f" (did you mean {near[0]!r}?)" if near else "",
                ", ".join(sorted(metrics)) or "no metrics",
            )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say goodbye."""
        self._close(trainer, "finished")

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Say goodbye in error."""
        self._close(trainer, "error")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave nothing behind, however the fit ended."""
        self._close(trainer, "error")

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: plain data."""
        return self._pilot.state_dict() if self._pilot is not None else self._loaded or {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember a checkpoint's state until the fit starts."""
        self._loaded = state_dict or None

    # -- the rest

    def _horizon(self, trainer: pl.Trainer) -> int | None:
        if self._keywords["total_steps"] is not None:
            return int(self._keywords["total_steps"])
        estimate = trainer.estimated_stepping_batches
        if not math.isfinite(estimate) or estimate < 1:
            return None
        return int(estimate)

    def _close(self, trainer: pl.Trainer, reason: str) -> None:
        if self._pilot is None:
            return
        self._pilot.close(reason)
        for config in trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, _Unmoved):
                config.scheduler = config.scheduler.unwrap()


class WindowLoss:
    """The mean loss of an accumulation window, from what Lightning hands out per micro-batch."""

    def __init__(self) -> None:
        self._sum: Any = None
        self._count = 0

    def add(self, outputs: Tensor | Mapping[str, Any] | None) -> None:
        """Take one micro-batch's outputs; one that was skipped has no loss."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is None:
            return
        self._sum = loss if self._sum is None else self._sum + loss
        self._count += 1

    def take(self, accumulated: int) -> Any:
        """The loss of the optimizer step that just ended; None where no batch had one.

        Lightning divides each micro-batch's loss by `accumulate_grad_batches`, also in a last
        window that is shorter.
        """
        total, count = self._sum, self._count
        self._sum, self._count = None, 0
        if total is None or accumulated == 1 == count:
            return total
        return total * (accumulated / count)


class _Unmoved:
    """A scheduler as Lightning sees it: it still drives the optimizer that it was made for.

    The scheduler itself was pointed at a stand-in; LearningRateMonitor and the like ask it for its
    optimizer to learn the LR that is applied.
    """

    def __init__(self, scheduler: Any, optimizer: Any) -> None:
        self.__dict__.update(_scheduler=scheduler, optimizer=optimizer)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self.__dict__["_scheduler"])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._scheduler, name, value)

    def unwrap(self) -> Any:
        """The scheduler itself."""
        return self.__dict__["_scheduler"]


def _warn_of_finite_checks(trainer: pl.Trainer) -> None:
    """EarlyStopping ends a run at its first non-finite validation, before it can be rescued."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EarlyStopping) and callback.check_finite:
            log.warning(
                "LRPilot: EarlyStopping(check_finite=True) ends the run at a non-finite %s, maybe "
                "before a rollback arrives; EarlyStopping(..., check_finite=False) leaves it to us",
                callback.monitor,
            )


def _observes_only(trainer: pl.Trainer, pl_module: pl.LightningModule) -> str | None:
    """Why this fit cannot be controlled yet, if so."""
    if not pl_module.automatic_optimization:
        return "manual optimization"
    if len(trainer.optimizers) > 1:
        return f"{len(trainer.optimizers)} optimizers"
    if trainer.world_size > 1:
        return f"{trainer.world_size} ranks"
    return None
