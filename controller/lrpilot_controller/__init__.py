"""The LRPilot daemon: watches the losses of training runs and decides on their learning rates."""
