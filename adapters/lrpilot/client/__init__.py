"""The line to the daemon: one background thread, so that training never waits for it.

Nothing here imports grpc or torch.
"""

from lrpilot.client.agent import Agent
from lrpilot.client.base import Item, Message, Status, Transport

__all__ = ["Agent", "Item", "Message", "Status", "Transport"]
