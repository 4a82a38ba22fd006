"""LRPilot as a scheduler object, for code that asks for one: alone, and under LRPilot.

Run it as it stands: `python examples/scheduler_object.py`. Nothing is downloaded; seconds on a CPU.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.lr_scheduler import ChainedScheduler, CosineAnnealingLR, LRScheduler

from lrpilot.torch import PilotLR

STEPS = 300
LR = 20.0  # 2 is right here; from 6 on the loss overflows

torch.set_num_threads(1)
images, labels = load_digits(return_X_y=True)
digits = torch.tensor(images, dtype=torch.float32) / 16
targets = nn.functional.one_hot(torch.tensor(labels), 10).float()
TRAIN, TEST = slice(0, 1500), slice(1500, None)


class Task(nn.Module):
    """A model that knows its own loss, and the scheduler that wants to hear of it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 10))

    def loss(self, scheduler: PilotLR) -> torch.Tensor:
        """The loss on a random batch."""
        rows = torch.randint(TRAIN.stop, (256,))
        loss = nn.functional.mse_loss(self.net(digits[rows]), targets[rows])
        scheduler.observe(loss)  # LRPilot: wherever the loss is at hand
        return loss


def fit(
    task: Task, optimizer: torch.optim.Optimizer, scheduler: LRScheduler, pilot_lr: PilotLR
) -> float:
    """Stands for a trainer that somebody else wrote: all that it knows of is a scheduler."""
    for _ in range(STEPS):
        loss = task.loss(pilot_lr)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
    return loss.item()


def train(mode: str) -> None:
    """Train with mode="auto" (LRPilot decides) or mode="off" (as if it were not there)."""
    torch.manual_seed(0)
    task = Task()
    optimizer = torch.optim.SGD(task.parameters(), lr=LR, momentum=0.9)
    cosine = CosineAnnealingLR(optimizer, STEPS)
    pilot_lr = PilotLR(
        optimizer,
        model=task,
        scheduler=cosine,  # its curve stays what it is; LRPilot scales it
        total_steps=STEPS,
        project="scheduler-object",
        mode=mode,
    )
    last = fit(task, optimizer, ChainedScheduler([cosine, pilot_lr]), pilot_lr)
    pilot_lr.close()
    right = (task.net(digits[TEST]).argmax(1) == targets[TEST].argmax(1)).float().mean()
    print(f"mode={mode!r}: last loss {last:.4f}, {right:.1%} of unseen digits right")
    for told in pilot_lr.pilot.decisions:
        before, after = told.lrs_before[0], told.lrs_after[0]
        print(f"  step {told.applied_step}: {told.action}, LR {before:.3g} -> {after:.3g}")


train("off")
train("auto")
