"""Messages of the wire <-> values of the core: with `tell_wire`, all that knows both.

`*_from` functions check what a peer may have got wrong and raise `InvalidTelemetry`. What only a
newer peer knows is left out, never fatal.
"""

from lrpilot_controller.server.convert.decisions import decision_to, signal_to
from lrpilot_controller.server.convert.hello import attempt_from
from lrpilot_controller.server.convert.plans import plan_from, plan_to
from lrpilot_controller.server.convert.reports import report_from
from lrpilot_controller.server.convert.telemetry import samples_from
from lrpilot_controller.server.convert.words import MAX_STEP, mode_from, mode_to, status_to

__all__ = [
    "MAX_STEP",
    "attempt_from",
    "decision_to",
    "mode_from",
    "mode_to",
    "plan_from",
    "plan_to",
    "report_from",
    "samples_from",
    "signal_to",
    "status_to",
]
