"""LRPilot in PyTorch Lightning: `Trainer(callbacks=[LRControllerCallback(...)])`."""

from lrpilot.lightning.callback import LRControllerCallback
from lrpilot.lightning.window import WindowLoss

__all__ = ["LRControllerCallback", "WindowLoss"]
