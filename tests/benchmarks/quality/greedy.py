"""The rule of Hugging Face's GreedyLR, without the rest of `transformers`.

The source is `GreedyLR` in `transformers/optimization.py` (added by huggingface/transformers pull
request 44271, here as of release 5.23), which follows "Dynamic Learning Rate Scheduling based on
Loss Changes Leads to Faster Convergence", arXiv:2512.14527. Written anew from that, for mode `min`
with absolute thresholds and one LR for all param groups; the names and defaults are theirs.
"""

import math
from collections import deque

import torch


class GreedyLR:
    """Raises the LR after `patience` new bests in a row, lowers it after as many that are none.

    Args:
        factor: What a cut multiplies the LR with, and a raise divides it by.
        patience: So many metrics of one kind in a row change nothing; the next one does.
        threshold: A new best is lower than the old one by more than that.
        cooldown: Metrics that are passed over after a cut.
        warmup: The same after a raise.
        min_lr: A cut goes no lower; an LR that is lower already stays.
        max_lr: A raise goes no higher; an LR that is higher already stays.
        eps: Smaller changes of the LR are not made.
        smooth: Judge the mean of the last `window_size` metrics.
        reset_start: After so many cuts at `min_lr` it starts again with the first LR.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        factor: float = 0.95,
        patience: int = 10,
        threshold: float = 1e-6,
        cooldown: int = 0,
        warmup: int = 0,
        min_lr: float = 1e-3,
        max_lr: float = 1.0,
        eps: float = 1e-8,
        smooth: bool = False,
        window_size: int = 50,
        reset_start: int = 500,
    ) -> None:
        self.optimizer = optimizer
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.cooldown = cooldown
        self.warmup = warmup
        self.min_lr = min_lr
        self.max_lr = max_lr
        self.eps = eps
        self.reset_start = reset_start
        self.window: deque[float] = deque(maxlen=window_size if smooth else 1)
        self.first_lr = self.lr
        self._start()

    def _start(self) -> None:
        self.best = math.inf
        self.good = self.bad = 0  # metrics in a row
        self.pause = 0  # metrics that are still passed over
        self.cuts_left = self.reset_start
        self.window.clear()

    @property
    def lr(self) -> float:
        """The LR in force."""
        return float(self.optimizer.param_groups[0]["lr"])

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = value

    def step(self, metric: float) -> None:
        """Hands over the next metric."""
        self.window.append(metric)
        current = sum(self.window) / len(self.window)
        if self.pause:
            self.pause -= 1
            self.good = self.bad = 0
            return
        if current < self.best - self.threshold:
            self.best = current
            self.good, self.bad = self.good + 1, 0
        else:
            self.good, self.bad = 0, self.bad + 1
        if self.good > self.patience:
            self._raise()
            self.good, self.pause = 0, self.warmup
        elif self.bad > self.patience:
            self._cut()
            self.bad, self.pause = 0, self.cooldown

    def _raise(self) -> None:
        higher = min(self.lr / self.factor, self.max_lr)
        if higher - self.lr > self.eps:
            self.lr = higher
        self.cuts_left = self.reset_start

    def _cut(self) -> None:
        lower = max(self.lr * self.factor, self.min_lr)
        if self.lr - lower > self.eps:
            self.lr = lower
        if self.lr <= self.min_lr:
            self.cuts_left -= 1
            if self.cuts_left <= 0:
                self.lr = self.first_lr
                self._start()
