"""The loss of an optimizer step, from what Lightning hands out per micro-batch."""

from typing import Any

from torch import Tensor


class WindowLoss:
    """The mean loss of an accumulation window."""

    def __init__(self) -> None:
        self._sum: Any = None
        self._count = 0

    def add(self, outputs: Tensor | dict[str, Any] | None) -> None:
        """Take one micro-batch's outputs; one that was skipped has no loss."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
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
