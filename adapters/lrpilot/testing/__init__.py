"""For those who write or test adapters: a transport without a daemon, and the contract suite.

Every adapter, ours or a third party's, must pass `TrainerContract`: subclass it in a pytest file,
name the subclass `Test...`, and implement `rig`.
"""

from lrpilot.testing.contract import TrainerContract
from lrpilot.testing.daemon import FakeDaemon
from lrpilot.testing.rig import Rig

__all__ = ["FakeDaemon", "Rig", "TrainerContract"]
