"""In the middle of a program the run's own state can be looked at, and saved."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lrpilot.torch.trainer import TorchTrainer
from lrpilot.trainer import ASIDE_SLOT
from lrpilot_proto.v1 import model_pb2
from support.searches import Search, ends, over, program, replaces, runs, same

STAY = {"length": 5, "fallback": replaces(0.03)}


def search(**fields: Any) -> Search:
    return Search(*(runs(program(i, **STAY)) for i in (1, 2)), over(3), **fields)


@pytest.mark.parametrize("look", [lambda p: p.settle(), lambda p: p.state_dict()])
def test_the_runs_own_state_is_live_after_settling(look: Callable[[Any], None]) -> None:
    run = search()
    start = run.state
    run.train(3)
    look(run.pilot)
    assert same(run.state[: len(start)], start)
    assert run.pilot.lrs[0] == 0.03


def test_with_batches_a_program_goes_on_as_if_nothing_had_happened() -> None:
    plain = search()
    plain.train(10)
    settled = search()
    for _ in range(10):
        settled.train()
        settled.pilot.settle()
        settled.pilot.settle()
        torch.rand(3)  # as a validation that draws
        settled.model(torch.zeros(2, 4))
    assert settled.losses == plain.losses
    assert [list(r.losses) for r in settled.daemon.results] == [
        list(r.losses) for r in plain.daemon.results
    ]
    assert [r.branch for r in settled.daemon.results] == [1, 2]


def test_a_program_set_aside_waits_for_the_next_loader() -> None:
    plain, epochs = search(), search()
    plain.train(12)
    loader = [next(epochs._data) for _ in range(4)]
    epochs.feed(loader)
    for _ in range(3):
        epochs.train(4)
        with pytest.raises(StopIteration):
            epochs.train()
        epochs.pilot.settle()
        epochs.feed(loader)
    assert [r.stop_reason for r in epochs.daemon.results] == ["length", "length"]
    assert list(epochs.daemon.results[0].losses) == list(epochs.daemon.results[1].losses)


def test_when_there_is_no_next_batch_the_own_state_stays() -> None:
    run = search()
    start = run.state
    run.feed([next(run._data) for _ in range(3)])
    run.train(3)
    run.pilot.settle()
    with pytest.raises(StopIteration):
        run.train()
    assert same(run.state[: len(start)], start)


def test_a_state_taken_aside_has_the_fallback_plan_and_the_step() -> None:
    run = search()
    run.train(3)
    state = run.pilot.state_dict()
    assert (state["step"], state["branch"]) == (3, 1)
    assert state["plan"]["plan"]["segments"][0]["start_value"] == 0.03


def test_validation_of_the_own_state_is_no_programs() -> None:
    run = search()
    run.train(2)
    run.pilot.validate(1.0)
    run.pilot.settle()
    run.pilot.validate(2.0)
    run.train(1)
    stamps = [(item[1], item[4]) for item in run.daemon.items]
    assert stamps == [(1, 1), (1, 1), (2, 1), (2, 0), (1, 1)]


def test_the_own_state_of_a_program_that_restores_nothing_is_that_of_before_it() -> None:
    kept: list[torch.Tensor] = []

    def second(branch: int) -> model_pb2.Decision:
        kept.extend(run.state)
        return runs(program(2, restore_snapshot=None))(branch)

    run = Search(runs(program(1)), second, over(3))
    run.train(6)
    run.pilot.settle()
    assert same(run.state, kept)
    run.train(2)
    assert run.daemon.results[1].stop_reason == "length"


# -- without batches, or without memory


def test_without_batches_the_program_ends_and_the_next_step_moves_no_weight() -> None:
    run = search(batches=False)
    start = [p.detach().clone() for p in run.model.parameters()]
    run.train(3)
    run.pilot.settle()
    weights = [p.detach().clone() for p in run.model.parameters()]
    assert same(weights, start)
    (result,) = run.daemon.results
    assert (result.stop_reason, list(result.losses)) == ("interrupted", run.losses)
    assert result.branch == 2
    assert run.pilot.lrs == [0.0, 0.0]
    assert run.pilot.state_dict()["plan"]["plan"]["segments"][0]["start_value"] == 0.03
    run.optimizer.step()
    assert same([p.detach() for p in run.model.parameters()], weights)
    run.pilot.step(1.0)
    assert [r.decision_id for r in run.daemon.receipts] == [1, 2]  # the word was awaited
    run.train(5)
    assert run.programs == [1] * 4 + [2] * 5


def test_a_program_that_cannot_be_set_aside_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    save = TorchTrainer.snapshot

    def full(self: TorchTrainer, slot: int) -> None:
        if slot == ASIDE_SLOT:
            raise RuntimeError("out of memory")
        save(self, slot)

    monkeypatch.setattr(TorchTrainer, "snapshot", full)
    run = search()
    start = run.state
    run.train(3)
    run.pilot.settle()
    assert same(run.state[: len(start)], start)
    assert run.daemon.results[0].stop_reason == "interrupted"
    run.train(6)
    assert run.daemon.results[1].stop_reason == "length"


def test_a_step_past_batches_ends_a_program_that_was_set_aside() -> None:
    run = search()
    run.train(3)
    run.pilot.settle()
    run.through_batches = False
    run.train()
    (result,) = run.daemon.results
    assert (result.stop_reason, result.branch) == ("interrupted", 2)
    assert len(result.losses) == 3
    run.train(5)
    assert run.programs == [1] * 4 + [2] * 5


@pytest.mark.parametrize("aside", [True, False])
def test_a_stop_and_the_end_leave_the_own_state(aside: bool) -> None:
    run = search()
    start = run.state
    run.train(3)
    if aside:
        run.pilot.settle()
    run.pilot.close()
    assert same(run.state[: len(start)], start)
    assert [r.stop_reason for r in run.daemon.results] == ["interrupted"]
    assert run.daemon.results[0].branch == 2


def test_settling_without_a_program_does_nothing() -> None:
    run = Search(search=False)
    run.train(3)
    before = run.state
    run.pilot.settle()
    assert same(run.state, before)
    assert run.daemon.results == []


# -- finish


def test_finish_leads_to_zero_in_a_straight_line_at_once() -> None:
    run = Search(search=False)
    run.train(2)
    run.pilot.finish(4)
    run.train(6)
    lrs = [item[6][0] / 0.1 for item in run.daemon.items]
    assert lrs == pytest.approx([1, 1, 1, 0.75, 0.5, 0.25, 0, 0])
    (request,) = run.reports("request")
    assert (request.kind, request.step, request.steps) == ("finish", 2, 4)


def test_finish_goes_on_from_the_plan_in_force() -> None:
    run = Search(runs(program(length=2)), over(2, lr=3.0))
    run.train(3)
    run.pilot.finish(3)
    run.train(3)
    assert [item[6][0] for item in run.daemon.items][3:] == pytest.approx([3.0, 2.0, 1.0])


def test_finish_ends_an_open_program_and_its_search() -> None:
    run = search()
    start = run.state
    run.train(3)
    run.pilot.finish(3)
    assert same(run.state[: len(start)], start)
    assert not run.pilot.searching
    assert run.pilot.lrs[0] == 0.03
    assert [r.WhichOneof("body") for r in run.daemon.reports[-2:]] == ["program", "request"]


@pytest.mark.parametrize("steps", [0, -1, 2.5, None])
def test_finish_takes_a_whole_number_of_steps(steps: Any) -> None:
    with pytest.raises(ValueError, match="whole number"):
        Search(search=False).pilot.finish(steps)


def test_an_observer_only_reports_a_finish() -> None:
    run = Search(search=False, mode="observe")
    run.train()
    run.pilot.finish(3)
    run.train()
    assert run.pilot.lrs == [0.1, 0.05]
    assert len(run.reports("request")) == 1


# -- search()


def test_a_search_of_its_own_runs_before_the_loop() -> None:
    run = Search(runs(program(1)), runs(program(2)), over(3), search=False)
    loader = [next(run._data) for _ in range(3)]
    run.pilot.search(run.one, loader)
    assert not run.pilot.searching
    assert run.pilot.step_count == 8
    assert run.seen == [0, 1, 2, 0, 0, 1, 2, 0]  # from its beginning as often as is needed
    first, second = run.daemon.results
    assert list(first.losses) == list(second.losses)
    assert run.pilot.lrs[0] == 0.02
    assert run.reports("request") == []  # the hello asks already
    assert run.daemon.hello is not None
    assert run.daemon.hello.search


def test_attach_and_search_do_not_ask_twice() -> None:
    run = Search(runs(program(1)), over(2))
    run.pilot.search()
    run.pilot.search(run.one, [next(run._data)])
    assert run.pilot.step_count == 4
    assert run.reports("request") == []


def test_a_search_of_its_own_makes_no_step_when_nobody_answers() -> None:
    run = Search(search=False)
    run.pilot.search(run.one, [next(run._data)])
    assert run.pilot.step_count == 0
    assert run.seen == []


def test_a_search_can_be_asked_for_in_mid_run() -> None:
    run = Search(search=False)
    run.train(3)
    run.pilot.search()
    (request,) = run.reports("request")
    assert (request.kind, request.step) == ("search", 3)
    run.train(2)
    assert run.programs == [0] * 5


def test_a_search_of_its_own_in_mid_run_waits_for_the_word() -> None:
    run = Search(search=False)
    run.train(3)
    script = [runs(program(5))(0), ends(6, branch=1)]
    run.daemon._answer = lambda report: (
        script.pop(0) if report.WhichOneof("body") in ("request", "program") else None
    )
    run.pilot.search(run.one, [next(run._data) for _ in range(2)])
    assert script == []
    assert run.pilot.step_count == 7
    assert run.seen[3:] == [3, 4, 3, 4]
    assert run.pilot.lrs[0] == 0.02


def test_a_search_that_is_declined_returns(caplog: pytest.LogCaptureFixture) -> None:
    run = Search(search=False)
    run.train(3)
    run.daemon._answer = lambda report: (
        model_pb2.Decision(id=1, action="ACTION_NOTE", reason="no")
        if report.WhichOneof("body") == "request"
        else None
    )
    run.pilot.search(run.one, [next(run._data)])
    assert run.pilot.step_count == 3
    assert "the daemon declined it" in caplog.text


def test_a_loader_that_gives_out_leaves_the_search_to_the_loop() -> None:
    run = Search(runs(program(1, length=5)), over(2), search=False)
    run.pilot.search(run.one, iter([next(run._data) for _ in range(2)]))
    assert run.pilot.searching
    run.train(3)
    assert run.daemon.results[0].stop_reason == "length"
    assert not run.pilot.searching


def test_search_takes_both_arguments_or_neither() -> None:
    run = Search(search=False)
    with pytest.raises(TypeError, match="together"):
        run.pilot.search(run.one)
    with pytest.raises(TypeError, match="together"):
        run.pilot.search(loader=[])
    with pytest.raises(ValueError, match="no batch"):
        run.pilot.search(run.one, [])
