"""The callback: which of Lightning's hooks means what to a pilot."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from lrpilot.lightning.checks import trains_no_more
from lrpilot.lightning.fit import Fit
from lrpilot.lightning.loggers import loggers_of
from lrpilot.lightning.packages import Guest
from lrpilot.metrics import Logged
from lrpilot.pilot import Pilot
from lrpilot.torch.options import Options
from lrpilot.torch.state import Stateful

log = logging.getLogger("lrpilot")


class LRControllerCallback(Guest):
    r"""Guard a Lightning run, and find its learning rate if asked to.

    Blow-ups are rolled back in memory and the learning rate is cut. With `search=True` the first
    steps try learning rates on batches that are served again; `lrpilot/probe` is logged as 1 beside
    them. Validation and checkpoints see the run's own weights all the while.

    It works with the `Trainer` of `lightning` and of `pytorch_lightning`, in automatic and in
    manual optimization. A step is a batch in which an optimizer stepped, even if several did;
    the batches before it, in which none did, belong to it. The loss is the mean of what
    `training_step` returned for them. In manual optimization it may return nothing: then the
    loss is `trainer.callback_metrics["train_loss"]`, or what `loss` names, at the step's last
    batch. The validation loss is `trainer.callback_metrics[monitor]`, read in `on_validation_end`.

    A rollback restores weights and optimizer state and leaves loops, loggers, dataloaders and
    `global_step` untouched. Schedulers keep their curves, those of manual optimization as well.

    Several ranks of DDP do the same at the same step. Under FSDP, DeepSpeed and the like they are
    observed only, which is said once; so is why a fit cannot be searched. `fast_dev_run` makes
    the callback inert. A fault of LRPilot's own never ends a fit.

    Args:
        loss: name of a train loss that is logged at each step (`on_step=True`), taken in place of
            what `training_step` returns.
        monitor: name of the logged validation loss; `val_loss`, where it is logged, unless given.
            A missing one is said once and never stops the run.
        total_steps: optimizer steps of the run; what Lightning estimates unless given. Where
            manual optimization accumulates by itself, Lightning cannot know.
        project: as in :func:`lrpilot.attach`, like the other keywords.
        logger: True also logs what is done to the Trainer's loggers, on their axis of steps: the LR
            every `log_every_n_steps`, and each decision with the signal that led to it. Or one of
            your own, as in :func:`lrpilot.attach`.

    Raises:
        TypeError: an argument is of the wrong kind.
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
        loss: str | None = None,
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
        loss_of: str = "rank0",
        logger: Any = None,
    ) -> None:
        super().__init__()
        self._loss = Logged("loss", loss, "train_loss", when="at each step")
        self._monitor = Logged("monitor", monitor, "val_loss")
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
            "loss_of": loss_of,
            "logger": None if logger is True else logger,
        }
        self._own_loggers = logger is True
        Options(**self._keywords)  # a bad argument is told here, not hours later
        self._fit: Fit | None = None  # the one under way
        self._pilot: Pilot | None = None
        self._loaded: dict[str, Any] | None = None

    @property
    def pilot(self) -> Pilot | None:
        """The pilot of the fit under way, or of the last one; None before the first."""
        return self._pilot

    # -- hooks of Lightning

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Forget the last fit: what it did is no state of the next one."""
        if stage == "fit":
            self._pilot = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Attach, now that a checkpoint's optimizer state is in place."""
        if getattr(trainer, "fast_dev_run", False) or not trainer.optimizers:
            return
        state, self._loaded = self._loaded, None  # of this fit alone
        keywords = dict(self._keywords)
        if self._own_loggers:
            keywords["logger"] = loggers_of(trainer)
        try:
            self._fit = Fit(
                trainer, pl_module, keywords, self._stateful, self._loss, self._monitor, state
            )
        except (TypeError, ValueError):  # of the user's own making, and told before the first step
            raise
        except Exception as error:
            log.error("LRPilot: a fault of its own; training goes on without it", exc_info=error)
        else:
            self._pilot = self._fit.pilot

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Go on with a program before the loader begins anew, which may draw random numbers."""
        if self._fit is not None and trains_no_more(trainer):
            self._close("finished")
        if self._fit is not None:
            self._fit.epoch_starts()

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Start the run with the first batch; let a batch hold what a search trains on."""
        if self._fit is not None:
            self._fit.batch_starts(batch)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report the loss of an optimizer step once its last batch is done."""
        if self._fit is not None:
            self._fit.batch_ended(outputs)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Make the weights the run's own, for whoever looks between two epochs."""
        if self._fit is not None:
            self._fit.settle()

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Make the weights the run's own."""
        if self._fit is not None:
            self._fit.settle()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Report the validation loss."""
        if self._fit is not None:
            self._fit.validated()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Say goodbye."""
        self._close("finished")

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Say goodbye in error."""
        self._close("error")

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Leave nothing behind, however the fit ended."""
        self._close("error")

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: plain data."""
        if self._fit is not None:
            self._fit.settle()
        return self._pilot.state_dict() if self._pilot is not None else self._loaded or {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember a checkpoint's state until the fit starts; one that is under way goes on."""
        if self._fit is None:
            self._loaded = state_dict or None

    def _close(self, reason: str) -> None:
        fit, self._fit = self._fit, None
        if fit is not None:
            fit.close(reason)
