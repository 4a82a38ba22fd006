"""What a trainer is told of what detectors see."""

import asyncio
import math

from lrpilot_controller.core.events import SignalSeen
from lrpilot_controller.journal import RunKey
from lrpilot_controller.server.session import MAX_SIGNALS
from lrpilot_proto.v1 import model_pb2
from support.inprocess import Context, House
from support.peer import Trainer, hello, telemetry

RUN = RunKey("default", "run")


def told(house: House, losses: list[float], mode: model_pb2.Mode) -> Context:
    messages = [Trainer(hello=hello("run", mode=mode))]
    messages += [Trainer(telemetry=telemetry(1 + k, [loss])) for k, loss in enumerate(losses)]
    return asyncio.run(house.hold([message.SerializeToString() for message in messages]))


def signals_of(context: Context) -> list[tuple[str, int]]:
    return [(m.signal.kind, m.signal.step) for m in context.heard if m.HasField("signal")]


def recorded(house: House) -> list[tuple[str, int]]:
    events = [record.event for record in house.journal.records(RUN, kinds=[SignalSeen])]
    return [(e.signal.kind, e.signal.step) for e in events if isinstance(e, SignalSeen)]


def test_a_signal_that_led_to_a_decision_comes_with_that_alone() -> None:
    losses = [1.0 + 0.01 * math.sin(k) for k in range(200)]
    losses[100] = math.nan
    for mode in (model_pb2.MODE_AUTO, model_pb2.MODE_OBSERVE):
        house = House()
        heard = told(house, losses, mode)
        decided = [m.decision.signal.kind for m in heard.heard if m.HasField("decision")]
        if mode == model_pb2.MODE_AUTO:
            assert decided == ["nonfinite"]
            assert "nonfinite" not in [kind for kind, _ in signals_of(heard)]
        else:
            assert decided == []
            assert signals_of(heard) == recorded(house)
            assert ("nonfinite", 100) in signals_of(heard)
        house.close()


def test_whatever_a_detector_says_a_trainer_is_told_so_much_of_it() -> None:
    house = House()
    losses = [math.nan if k % 10 == 9 else 1.0 for k in range(1000)]
    heard = signals_of(told(house, losses, model_pb2.MODE_OBSERVE))
    everything = recorded(house)
    assert len(everything) > MAX_SIGNALS
    assert heard == everything[:MAX_SIGNALS]
    house.close()
