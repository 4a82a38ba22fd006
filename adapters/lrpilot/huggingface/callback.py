"""The callback: which of the Trainer's events means what to a pilot."""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from lrpilot.huggingface.trainers import reports_of, trainer_that_calls
from lrpilot.huggingface.training import Training
from lrpilot.metrics import Logged
from lrpilot.pilot import Pilot
from lrpilot.torch.options import Options
from lrpilot.torch.prepared import plain_optimizer
from lrpilot.torch.state import Stateful

log = logging.getLogger("lrpilot")


class LRControllerCallback(TrainerCallback, ExportableState):  # type: ignore[misc]
    r"""Guard a run of Hugging Face's Trainer, and find its learning rate if asked to.

    Blow-ups are rolled back in memory and the learning rate is cut. With `search=True` the first
    steps try learning rates on batches that are served again; evaluation, prediction and
    checkpoints see the run's own weights all the while.

    The loss is what `training_step` returned, summed over the micro-batches of an optimizer step,
    as the Trainer logs it, but with its non-finite values. The validation loss is
    `metrics[monitor]` of an evaluation. The Trainer's scheduler stays the anchor, and the
    `learning_rate` that it logs is the one applied. Checkpoints hold the pilot's state in
    `trainer_state.json`, and `resume_from_checkpoint` goes on with it.

    A rollback restores weights and optimizer state and leaves loops, loggers, dataloaders and
    `global_step` untouched. A step that the fp16 scaler skipped counts, as in `global_step`.
    Several ranks of DDP act as one. DeepSpeed, which moves LRs itself, leaves the callback inert. A
    fault of LRPilot's own never ends a training.

    Args:
        monitor: name of the validation loss among the metrics of an evaluation; `eval_loss`, where
            there is one, unless given. A missing one is said once and never stops the run.
        total_steps: optimizer steps of the run; what the Trainer plans unless given.
        project: as in :func:`lrpilot.attach`, like the other keywords.
        logger: True also logs what is done by `Trainer.log`, so wherever it reports to: the LR as
            often as it logs by itself, and each decision with the signal that led to it. Or one of
            your own, as in :func:`lrpilot.attach`.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument's value cannot be, with what is allowed.

    Example::

        >>> from lrpilot.huggingface import LRControllerCallback
        >>> Trainer(model, callbacks=[LRControllerCallback(project="demo")])  # doctest: +SKIP

    .. note:: With ``restore_callback_states_from_checkpoint=True`` the Trainer makes its callbacks
        anew, with the keywords of the checkpoint; there ``stateful``, ``token`` and ``logger``
        are not kept.
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
        loss_of: str = "rank0",
        logger: Any = None,
    ) -> None:
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
            "connect_timeout": connect_timeout,
            "snapshots": snapshots,
            "max_snapshot_gib": max_snapshot_gib,
            "loss_of": loss_of,
        }
        self._token = token
        self._logger = logger
        self._options(total_steps)  # a bad argument is told here, not hours later
        self._stateful = stateful
        self._monitor_name = monitor
        self._monitor = Logged("monitor", monitor, "eval_loss")
        self._training: Training | None = None  # the one under way
        self._pilot: Pilot | None = None

    @property
    def pilot(self) -> Pilot | None:
        """The pilot of the training under way, or of the last one; None before the first."""
        return self._pilot

    # -- events of the Trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Attach, now that a checkpoint's optimizer state is in place."""
        self._close("error")  # of a training that raised
        self._pilot = None
        trainer = trainer_that_calls(self)
        if trainer is None:
            log.warning("LRPilot: no Trainer calls this callback; training goes on without it")
            return
        optimizer = plain_optimizer(trainer.optimizer)
        if not isinstance(optimizer, torch.optim.Optimizer):
            name = type(optimizer).__name__
            log.warning("LRPilot: %s is no torch optimizer: training goes on without it", name)
            return
        kept = self._kept(state)
        horizon = self._keywords["total_steps"]
        if horizon is None and state.max_steps > 0:
            # Without a state of ours the run is counted from here.
            horizon = state.max_steps - (0 if kept else state.global_step)
        try:
            self._training = Training(
                trainer,
                optimizer,
                self._options(horizon, trainer),
                self._stateful,
                self._monitor,
                kept,
            )
        except (TypeError, ValueError):  # of the user's own making, and told before the first step
            raise
        except Exception as error:
            log.error("LRPilot: a fault of its own; training goes on without it", exc_info=error)
        else:
            self._pilot = self._training.pilot

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Go on with a program before the loader begins anew, which may draw random numbers."""
        if self._training is not None:
            self._training.go_on()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """A step begins, with its first batch."""
        if self._training is not None:
            self._training.step_begins()

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """The weights are whole."""
        if self._training is not None:
            self._training.optimizer_stepped()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Report the loss of the optimizer step, and apply what is due."""
        if self._training is not None:
            self._training.step_ended()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Make the weights the run's own."""
        if self._training is not None:
            self._training.settle()

    def on_evaluate(self, *_: Any, metrics: Mapping[str, float], **__: Any) -> None:
        """Report the validation loss."""
        if self._training is not None:
            self._training.evaluated(metrics)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Say goodbye."""
        self._close("finished")

    # -- the state in a checkpoint

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: plain data."""
        training = self._training
        saved = None if training is None or training.over else training.pilot.state_dict()
        args = {**self._keywords, "monitor": self._monitor_name}
        plain = json.loads(json.dumps(args, default=float))  # NumPy's numbers are none
        return {"args": plain, "attributes": {"saved": saved}}

    def _kept(self, state: TrainerState) -> dict[str, Any] | None:
        """The pilot's state in the checkpoint that is resumed from; None where there is none."""
        kept = state.stateful_callbacks.get(type(self).__name__) if state.global_step else None
        return kept["attributes"]["saved"] if isinstance(kept, dict) else None

    def _options(self, total_steps: int | None, trainer: Trainer | None = None) -> Options:
        logger = self._logger
        if logger is True:
            logger = None if trainer is None else reports_of(trainer)
        more = {"total_steps": total_steps, "token": self._token, "logger": logger}
        return Options(**self._keywords | more)

    def _close(self, reason: str) -> None:
        training, self._training = self._training, None
        if training is not None:
            training.close(reason)
