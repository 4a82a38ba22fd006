"""What a daemon needs to serve and to write its reviews, imported before it is forked."""

import optuna_dashboard  # noqa: F401
from optuna.storages import RDBStorage  # noqa: F401

import lrpilot_controller.server.daemon
import lrpilot_controller.tuning.quadratic  # noqa: F401
