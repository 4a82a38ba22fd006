"""Lightning fits that take turns, a block of steps each: one runs while all others wait.

Each is in a thread of its own, and its loader is where it waits: Lightning asks for a batch per
step, so that a block's time is that of as many steps.
"""

import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn, optim
from torch.utils.data import IterableDataset

from lrpilot.lightning import LRControllerCallback
from lrpilot.pilot import Pilot

PATIENCE_S = 120.0


class Module(pl.LightningModule):
    """The same job as the raw loops have."""

    def __init__(self, model: nn.Module, lr: float) -> None:
        super().__init__()
        self.model = model
        self.lr = lr

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss."""
        return nn.functional.mse_loss(self.model(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        """As in the raw loops."""
        return optim.SGD(self.parameters(), lr=self.lr)


class Turns(IterableDataset[Any]):
    """The batches of one fit; those of a block once it is its turn."""

    def __init__(self, batch: tuple[Tensor, Tensor], calls: int) -> None:
        self._batch = batch
        self._calls = calls
        self._may, self._did = threading.Semaphore(0), threading.Semaphore(0)
        self._over = False
        self._took = 0.0

    def __iter__(self) -> Iterator[Any]:
        while True:
            self._may.acquire()
            if self._over:
                return
            begin = time.perf_counter()
            for _ in range(self._calls):
                yield self._batch
            self._took = time.perf_counter() - begin
            self._did.release()

    def block(self) -> float:
        """Let the fit make one block of steps; its seconds."""
        self._may.release()
        if not self._did.acquire(timeout=PATIENCE_S):
            raise RuntimeError("a fit did not come back from its block")
        return self._took

    def end(self) -> None:
        """Let the fit end."""
        self._over = True
        self._may.release()


class Fit:
    """A fit under way."""

    def __init__(
        self, model: nn.Module, lr: float, batch: tuple[Tensor, Tensor], calls: int, **keywords: Any
    ) -> None:
        self._turns = Turns(batch, calls)
        self.block = self._turns.block
        self._callbacks = [LRControllerCallback(**keywords)] if keywords else []
        self._thread = threading.Thread(target=self._run, args=(Module(model, lr),), daemon=True)
        self._thread.start()

    @property
    def pilot(self) -> Pilot | None:
        """That of the callback, once the fit has begun."""
        return self._callbacks[0].pilot if self._callbacks else None

    def end(self) -> None:
        """End it."""
        self._turns.end()
        self._thread.join(PATIENCE_S)

    def _run(self, module: Module) -> None:
        warnings.simplefilter("ignore")  # one process, no workers, no validation: as it is meant
        callbacks: Sequence[pl.Callback] = self._callbacks
        trainer = pl.Trainer(
            max_epochs=1,
            callbacks=list(callbacks),
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, self._turns)
