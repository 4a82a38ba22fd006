"""Two optimizers in one loop, one of them at an LR far too high: alone, and under LRPilot.

Run it as it stands: `python examples/two_optimizers.py`. Nothing is downloaded; seconds on a CPU.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

import lrpilot

STEPS = 400
LR = 20.0  # 2 is right here; from 6 on the loss overflows

torch.set_num_threads(1)
images, labels = load_digits(return_X_y=True)
digits = torch.tensor(images, dtype=torch.float32) / 16
targets = nn.functional.one_hot(torch.tensor(labels), 10).float()
TRAIN, TEST = slice(0, 1500), slice(1500, None)


def train(mode: str) -> None:
    """Train with mode="auto" (LRPilot decides) or mode="off" (as if it were not there)."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(64, 256), nn.GELU())
    head = nn.Linear(256, 10)
    model = nn.Sequential(body, head)
    optimizers = [
        torch.optim.AdamW(body.parameters(), lr=0.01),
        torch.optim.SGD(head.parameters(), lr=LR, momentum=0.9),
    ]
    schedulers = [torch.optim.lr_scheduler.CosineAnnealingLR(one, STEPS) for one in optimizers]
    with lrpilot.attach(
        optimizers,  # one run: one factor for all LRs, one rollback for all weights
        model=model,
        scheduler=schedulers,
        total_steps=STEPS,
        project="two-optimizers",
        mode=mode,
    ) as pilot:
        for _ in range(STEPS):
            rows = torch.randint(TRAIN.stop, (256,))
            loss = nn.functional.mse_loss(model(digits[rows]), targets[rows])
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
                optimizer.step()
                scheduler.step()
            pilot.step(loss)  # LRPilot: once, after all of them
    right = (model(digits[TEST]).argmax(1) == targets[TEST].argmax(1)).float().mean()
    print(f"mode={mode!r}: last loss {loss.item():.4f}, {right:.1%} of unseen digits right")
    for told in pilot.decisions:
        changes = zip(told.lrs_before, told.lrs_after, strict=True)
        lrs = ", ".join(f"{before:.3g} -> {after:.3g}" for before, after in changes)
        print(f"  step {told.applied_step}: {told.action}, LR {lrs}")


train("off")
train("auto")
