"""Mixed precision and gradient accumulation, from an LR far too high: alone, and under LRPilot.

Run it as it stands: `python examples/mixed_precision.py`. Nothing is downloaded; seconds on a CPU.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

import lrpilot

STEPS = 300
MICRO_BATCHES = 4
LR = 20.0  # 2 is right here; from 6 on the loss overflows

torch.set_num_threads(1)
images, labels = load_digits(return_X_y=True)
digits = torch.tensor(images, dtype=torch.float32) / 16
targets = nn.functional.one_hot(torch.tensor(labels), 10).float()
TRAIN, TEST = slice(0, 1500), slice(1500, None)


def train(mode: str) -> None:
    """Train with mode="auto" (LRPilot decides) or mode="off" (as if it were not there)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    with lrpilot.attach(
        optimizer, model=model, total_steps=STEPS, project="mixed-precision", mode=mode
    ) as pilot:
        for _ in range(STEPS):
            mean = torch.zeros(())
            for _ in range(MICRO_BATCHES):
                rows = torch.randint(TRAIN.stop, (64,))
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    outputs = model(digits[rows])
                loss = nn.functional.mse_loss(outputs.float(), targets[rows]) / MICRO_BATCHES
                loss.backward()  # type: ignore[no-untyped-call]
                mean += loss.detach()
            optimizer.step()
            optimizer.zero_grad()
            pilot.step(mean)  # LRPilot: once per optimizer step, not per micro-batch
    right = (model(digits[TEST]).argmax(1) == targets[TEST].argmax(1)).float().mean()
    print(f"mode={mode!r}: last loss {mean.item():.4f}, {right:.1%} of unseen digits right")
    for told in pilot.decisions:
        before, after = told.lrs_before[0], told.lrs_after[0]
        print(f"  step {told.applied_step}: {told.action}, LR {before:.3g} -> {after:.3g}")


# In float16, where a GradScaler skips steps, nothing changes: `pilot.step(loss)` after
# `scaler.update()`, whether the scaler skipped the step or not.
train("off")
train("auto")
