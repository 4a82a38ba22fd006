"""A compiled model and a compiled optimizer step: LRs change, and nothing is compiled again.

Run it as it stands: `python examples/compiled_step.py`. Nothing is downloaded; seconds on a CPU.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

import lrpilot

STEPS = 300
LR = 20.0  # 2 is right here; from 6 on the loss overflows
BACKEND = "aot_eager"  # "inductor" makes it fast, and needs a C++ compiler and half a minute

torch.set_num_threads(1)
images, labels = load_digits(return_X_y=True)
digits = torch.tensor(images, dtype=torch.float32) / 16
targets = nn.functional.one_hot(torch.tensor(labels), 10).float()
TRAIN, TEST = slice(0, 1500), slice(1500, None)


def train(mode: str) -> None:
    """Train with mode="auto" (LRPilot decides) or mode="off" (as if it were not there)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 10))
    # A tensor LR is written in place: compiled code and captured graphs go on reading it.
    optimizer = torch.optim.SGD(model.parameters(), lr=torch.tensor(LR), momentum=0.9)
    compiled = torch.compile(model, backend=BACKEND)
    update = torch.compile(optimizer.step, backend=BACKEND)
    with lrpilot.attach(
        optimizer, model=model, total_steps=STEPS, project="compiled", mode=mode
    ) as pilot:
        for _ in range(STEPS):
            rows = torch.randint(TRAIN.stop, (256,))
            loss = nn.functional.mse_loss(compiled(digits[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            update()
            pilot.step(loss)  # LRPilot: outside of what is compiled
    right = (model(digits[TEST]).argmax(1) == targets[TEST].argmax(1)).float().mean()
    print(f"mode={mode!r}: last loss {loss.item():.4f}, {right:.1%} of unseen digits right")
    for told in pilot.decisions:
        before, after = told.lrs_before[0], told.lrs_after[0]
        print(f"  step {told.applied_step}: {told.action}, LR {before:.3g} -> {after:.3g}")


train("off")
train("auto")
