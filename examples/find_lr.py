"""An LR a thousand times too low, or a hundred times too high: alone, and with a search.

Run it as it stands: `python examples/find_lr.py`. Nothing is downloaded; under a minute on a CPU.
`lrpilot show RUN` afterwards draws the loss against the LRs that were tried.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lrpilot

STEPS = 800
BEST = 0.3  # what a grid of full runs finds here

torch.set_num_threads(1)
images, labels = load_digits(return_X_y=True)
digits = TensorDataset(torch.tensor(images, dtype=torch.float32) / 8 - 1, torch.tensor(labels))
TRAIN, TEST = range(1300), range(1300, len(digits))


def train(lr: float, search: bool) -> None:
    """Train from a base LR, with a search or as if LRPilot were not there."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    loader = DataLoader(torch.utils.data.Subset(digits, TRAIN), batch_size=32, shuffle=True)
    with lrpilot.attach(
        optimizer,
        model=model,
        total_steps=STEPS,
        project="find-lr",
        search=search,
        mode="auto" if search else "off",
    ) as pilot:
        while pilot.step_count < STEPS:
            for inputs, targets in pilot.batches(loader):  # lets the search replay a few batches
                loss = nn.functional.cross_entropy(model(inputs), targets)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                pilot.step(loss)
                if pilot.step_count >= STEPS:
                    break
    inputs, targets = digits[torch.tensor(TEST)]
    with torch.no_grad():
        held_out = nn.functional.cross_entropy(model(inputs), targets).item()
    how = "searched" if search else "alone   "
    print(f"base LR {lr:<7.3g} {how}: held-out loss {held_out:.3f} after {pilot.step_count} steps")
    if search:
        print(f"  {pilot.decisions[-1].reason}")


for factor in (1e-3, 1.0, 100.0):
    for search in (False, True):
        train(BEST * factor, search)
