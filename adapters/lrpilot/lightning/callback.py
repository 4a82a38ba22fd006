"""The callback: which of Lightning's hooks means what to a pilot."""

import difflib
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from lrpilot.lightning.checks import observes_only, warn_of_finite_checks, why_no_search
from lrpilot.lightning.schedulers import Unmoved
from lrpilot.lightning.search import SearchInFit
from lrpilot.lightning.window import WindowLoss
from lrpilot.pilot import Pilot
from lrpilot.torch.options import Options
from lrpilot.torch.state import Stateful

log = logging.getLogger("lrpilot")

# Taken for the validation loss where `monitor` is not given.
USUAL_MONITOR = "val_loss"


class LRControllerCallback(Callback):
    r"""Guard a Lightning run, and find its learning rate if asked to.

    Blow-ups are rolled back in memory and the learning rate is cut. With `search=True` the first
    steps try learning rates on batches that are served again; `lrpilot/probe` is logged as 1 beside
    them. Validation and checkpoints see the run's own weights all the while.

    The loss is what `training_step` returned, per optimizer step; the validation loss is
    `trainer.callback_metrics[monitor]`, read in `on_validation_end`. A rollback restores weights
    and optimizer state and leaves loops, loggers, dataloaders and `global_step` untouched.

    Manual optimization, several optimizers and several ranks are observed only, which is said
    once; so is why a fit cannot be searched. `fast_dev_run` makes the callback inert.

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

    .. note:: List it before ``LearningRateMonitor``, so that the monitor sees the LR applied, and
        before callbacks that swap weights for validation.
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
        signals: Mapping[str, str] | None = None,
        min_lr: float | None = None,
        max_lr: float | None = None,
        address: str = "auto",
        token: str | None = None,
        connect_timeout: float = 10.0,
        snapshots: str = "auto",
        max_snapshot_gib: float | None = None,
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
            "signals": signals,
            "min_lr": min_lr,
            "max_lr": max_lr,
            "address": address,
            "token": token,
            "connect_timeout": connect_timeout,
            "snapshots": snapshots,
            "max_snapshot_gib": max_snapshot_gib,
        }
        Options(**self._keywords)  # a bad argument is told here, not hours later
        self._pilot: Pilot | None = None
        self._search: SearchInFit | None = None
        self._loaded: dict[str, Any] | None = None
        self._loss = WindowLoss()
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
        why = observes_only(trainer, pl_module)
        warn_of_finite_checks(trainer)
        keywords = self._keywords | {"total_steps": self._horizon(trainer)}
        if why:
            log.warning("LRPilot: %s: this version observes it and writes nothing", why)
            keywords["search"] = False
        elif keywords["search"] is True and (reason := why_no_search(trainer, pl_module)):
            log.warning("LRPilot: no search: %s; this run is only guarded", reason)
            keywords["search"] = False
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
            controls=not why,
        )
        pilot = self._pilot
        for config in configs:
            config.scheduler = Unmoved(config.scheduler, optimizer, lambda: pilot.searching)
        if self._loaded:
            pilot.load_state_dict(self._loaded)
            self._loaded = None  # of this fit alone
        self._loss = WindowLoss()
        self._search = SearchInFit(trainer, pl_module, pilot)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on with a program before the loader begins anew, which may draw random numbers."""
        if self._search is not None:
            self._search.go_on()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the run with the first batch; let a batch hold what a search trains on."""
        if self._search is not None:
            self._search.batch_starts(batch)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Report the loss of an optimizer step once its last micro-batch is done."""
        if self._pilot is None or self._search is None:
            return
        self._loss.add(outputs)
        if self._search.batch_ended():
            loss = self._loss.take(trainer.accumulate_grad_batches)
            if loss is not None:
                self._pilot.step(loss)
        self._search.boundary()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the weights the run's own, for whoever looks between two epochs."""
        if self._search is not None:
            self._search.settle()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make the weights the run's own."""
        if self._search is not None and not trainer.sanity_checking:
            self._search.settle()

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
        if self._search is not None:
            self._search.settle()
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
        search, self._search = self._search, None
        if search is not None:
            search.close()
        self._pilot.close(reason)
        for config in trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, Unmoved):
                config.scheduler = config.scheduler.unwrap()
