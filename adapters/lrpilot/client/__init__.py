"""The line to the daemon: one background thread, so that training never waits for it.

Importing this package imports neither grpc nor torch: grpc comes in with the thread that uses it.
"""

from lrpilot.client.agent import Agent
from lrpilot.client.base import Item, Message, Status, Transport

__all__ = ["Agent", "Item", "Message", "Status", "Transport"]
