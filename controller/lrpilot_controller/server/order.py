"""What a trainer has to say next: a session in which something is missing must not go on.

An acknowledgement covers all that lies below it. Were a message taken whose predecessor is still
to come, that one would be acknowledged unseen, and lost.
"""

from lrpilot_controller.core.events import Report
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.errors import OutOfOrder


class Order:
    """Watches one session. What comes again is in order; what the trainer let go of as well.

    Args:
        next_seq: the oldest item that the trainer can still send, or the journal lacks.
        next_report: the same of reports; None where the trainer does not say.
    """

    def __init__(self, next_seq: int, next_report: int | None) -> None:
        self._next_seq = next_seq
        self._next_report = next_report
        self._gaps = 0

    def check(self, event: Samples | Report) -> None:
        """Take note of what came.

        Raises:
            OutOfOrder: something before it is missing, and the trainer can still send it.
        """
        if isinstance(event, Samples):
            self._samples(event)
        elif self._next_report is not None:
            if event.report_seq > self._next_report:
                raise OutOfOrder(
                    f"report {event.report_seq} came, but report {self._next_report} is missing: "
                    "send them again, in order"
                )
            self._next_report = max(self._next_report, event.report_seq + 1)

    def _samples(self, samples: Samples) -> None:
        gap = max(0, samples.first_seq - self._next_seq)
        if self._gaps + gap > samples.dropped:
            raise OutOfOrder(
                f"telemetry from item {samples.first_seq} on came, but items from "
                f"{self._next_seq} on are missing and only {samples.dropped} were dropped: send "
                "them again, in order"
            )
        self._gaps += gap
        self._next_seq = max(self._next_seq, samples.next_seq)
