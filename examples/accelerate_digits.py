"""A loop with Accelerate, accumulated gradients and an LR far too high: alone, and under LRPilot.

Run it as it stands: `python examples/accelerate_digits.py`. Nothing is downloaded; seconds on CPU.
"""

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lrpilot

EPOCHS, BATCH, ACCUMULATE = 30, 64, 2
LR = 20.0  # 2 is right here; from 6 on the loss overflows

torch.set_num_threads(1)
images, labels = load_digits(return_X_y=True)
digits = torch.tensor(images, dtype=torch.float32) / 16
targets = nn.functional.one_hot(torch.tensor(labels), 10).float()
TRAIN, TEST = slice(0, 1500), slice(1500, None)


def train(mode: str) -> None:
    """Train with mode="auto" (LRPilot decides) or mode="off" (as if it were not there)."""
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=ACCUMULATE)
    model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    loader = DataLoader(TensorDataset(digits[TRAIN], targets[TRAIN]), BATCH, shuffle=True)
    steps = EPOCHS * -(-len(loader) // ACCUMULATE)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
    with lrpilot.attach(  # takes what was prepared
        optimizer, model=model, scheduler=scheduler, total_steps=steps, project="digits", mode=mode
    ) as pilot:
        accelerator.register_for_checkpointing(pilot)  # for save_state and load_state
        for _ in range(EPOCHS):
            for rows, wanted in pilot.batches(loader):
                with accelerator.accumulate(model):
                    loss = nn.functional.mse_loss(model(rows), wanted)
                    accelerator.backward(loss)
                    optimizer.step()
                    scheduler.step()
                    optimizer.zero_grad()
                pilot.step(loss)  # LRPilot: for every batch; it knows which of them made a step
    right = (model(digits[TEST]).argmax(1) == targets[TEST].argmax(1)).float().mean()
    print(f"mode={mode!r}: last loss {loss.item():.4f}, {right:.1%} of unseen digits right")
    for told in pilot.decisions:
        before, after = told.lrs_before[0], told.lrs_after[0]
        print(f"  step {told.applied_step}: {told.action}, LR {before:.3g} -> {after:.3g}")


train("off")
train("auto")
