"""Several optimizers under one pilot, as of a GAN: one run, one factor, one rollback."""

import copy
import json
from typing import Any

import pytest
import torch

import lrpilot
from lrpilot.pilot import Pilot
from lrpilot.testing import FakeDaemon
from lrpilot.torch.options import Options
from lrpilot_proto.v1 import model_pb2
from support.loopback import Loopback

LRS = (0.1, 0.02)


@pytest.fixture(autouse=True)
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    fake = FakeDaemon()
    monkeypatch.setattr(Options, "_connect", lambda self: fake)
    return fake


class Loop:
    """Two networks, each with an optimizer of its own."""

    def __init__(self, *, attach: bool = True, scheduled: bool = False) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.ModuleList(torch.nn.Linear(3, 3) for _ in LRS)
        first, second = (list(part.parameters()) for part in self.model)
        self.optimizers = [
            torch.optim.SGD(first, lr=LRS[0], momentum=0.9),
            torch.optim.AdamW([{"params": second, "lr": LRS[1], "name": "critic"}]),
        ]
        self.schedulers: list[Any] = []
        if scheduled:
            self.schedulers = [
                torch.optim.lr_scheduler.ExponentialLR(self.optimizers[0], 0.9),
                torch.optim.lr_scheduler.StepLR(self.optimizers[1], 2, 0.5),
            ]
        self.pilot: Pilot | None = self.attach() if attach else None

    def attach(self, **keywords: Any) -> Pilot:
        return lrpilot.attach(
            self.optimizers, model=self.model, scheduler=self.schedulers, **keywords
        )

    def train(self, steps: int = 1) -> None:
        for _ in range(steps):
            loss = sum((p(torch.ones(2, 3)).square().mean() for p in self.model), torch.zeros(()))
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in self.optimizers:
                optimizer.step()
            for scheduler in self.schedulers:
                scheduler.step()
            if self.pilot is not None:
                self.pilot.step(loss)

    @property
    def lrs(self) -> list[float]:
        return [group["lr"] for one in self.optimizers for group in one.param_groups]

    @property
    def weights(self) -> list[torch.Tensor]:
        return [parameter.detach().clone() for parameter in self.model.parameters()]


def cut(factor: float, **fields: Any) -> model_pb2.Decision:
    constant = model_pb2.Segment(
        shape="SHAPE_CONSTANT", start=0, end=1, start_value=factor, end_value=factor
    )
    plan = model_pb2.Plan(kind="PLAN_KIND_SCALE", segments=[constant])
    return model_pb2.Decision(**{"id": 1, "action": "ACTION_CUT", "plan": plan} | fields)


def test_one_run_has_the_groups_of_all_in_order(daemon: FakeDaemon) -> None:
    loop = Loop()
    loop.train()
    hello = daemon.hello
    assert hello is not None
    assert [(group.name, group.base_lr) for group in hello.groups] == [
        ("0/group 0", LRS[0]),
        ("1/critic", LRS[1]),
    ]
    assert hello.optimizer == "SGD+AdamW"
    assert hello.job.startswith("ModuleList/SGD+AdamW/24")


def test_one_factor_holds_for_all_and_a_release_takes_it_back(daemon: FakeDaemon) -> None:
    loop, native = Loop(scheduled=True), Loop(attach=False, scheduled=True)
    loop.train(2)
    daemon.decide(cut(0.5))
    loop.train(3)
    native.train(5)
    assert loop.lrs == pytest.approx([0.5 * lr for lr in native.lrs])
    daemon.decide(model_pb2.Decision(id=2, action="ACTION_RELEASE", release=True))
    loop.train()
    native.train()
    assert loop.lrs == native.lrs


def test_a_sample_has_the_lrs_that_each_optimizer_stepped_at(daemon: FakeDaemon) -> None:
    loop = Loop(scheduled=True)
    ran_at = []
    for k in range(5):
        if k == 2:
            daemon.decide(cut(0.5))
        ran_at.append(tuple(loop.lrs))
        for optimizer, scheduler in zip(loop.optimizers, loop.schedulers, strict=True):
            optimizer.step()  # the first one's LR has moved when the second one steps
            scheduler.step()
        assert loop.pilot is not None
        loop.pilot.step(1.0)
    assert [item[6] for item in daemon.items] == ran_at


def test_a_rollback_puts_all_of_them_back(daemon: FakeDaemon) -> None:
    loop = Loop()
    start = loop.weights
    loop.train(3)
    daemon.decide(cut(1.0, action="ACTION_ROLLBACK", restore_snapshot=1))
    loop.train()
    assert all(map(torch.equal, loop.weights, start))
    again = Loop(attach=False)
    again.train(3)
    loop.train(3)  # with the optimizers' states of the start as well
    assert all(map(torch.equal, loop.weights, again.weights))


@pytest.mark.parametrize("first", [0, 1])
def test_the_start_is_taken_before_whichever_steps_first(daemon: FakeDaemon, first: int) -> None:
    loop = Loop()
    start = loop.weights
    loop.model[first](torch.ones(1, 3)).sum().backward()
    loop.optimizers[first].step()
    assert loop.pilot is not None
    loop.pilot._trainer.restore(0, rng=False)
    assert all(map(torch.equal, loop.weights, start))


def test_two_optimizers_may_train_the_same_parameters(daemon: FakeDaemon) -> None:
    loop = Loop(attach=False)
    shared = list(loop.model.parameters())
    loop.optimizers = [torch.optim.Adam(shared, lr=lr) for lr in LRS]
    loop.pilot = loop.attach()
    start = loop.weights
    loop.train(2)
    after = loop.weights
    loop.pilot._trainer.restore(0, rng=False)
    assert all(map(torch.equal, loop.weights, start))
    loop.train(2)
    assert all(map(torch.equal, loop.weights, after))


def grow(loop: Loop) -> None:
    """A group that the first optimizer is given in mid-run."""
    extra = torch.nn.Linear(3, 3)
    loop.optimizers[0].add_param_group({"params": list(extra.parameters()), "lr": 0.07})


def test_a_group_added_to_the_first_does_not_shift_the_second(daemon: FakeDaemon) -> None:
    loop = Loop()
    loop.train()
    grow(loop)
    daemon.decide(cut(0.5))
    loop.train()
    assert loop.lrs == [0.05, 0.07, 0.01]
    assert loop.pilot is not None
    assert loop.pilot.lrs == [0.05, 0.01]


def test_nor_does_it_after_a_resume(daemon: FakeDaemon) -> None:
    loop = Loop()
    loop.train()
    daemon.decide(cut(0.5))
    loop.train()
    grow(loop)
    assert loop.pilot is not None
    state = json.loads(json.dumps(loop.pilot.state_dict()))
    resumed = Loop(attach=False)
    grow(resumed)
    pilot = resumed.attach()
    pilot.load_state_dict(state)
    assert resumed.lrs == [0.05, 0.07, 0.01]
    assert pilot.lrs == [0.05, 0.01]


@pytest.mark.parametrize("order", [("attach", "pilot", "rest"), ("attach", "rest", "pilot")])
def test_a_checkpoint_in_a_cut_goes_on_in_both(daemon: FakeDaemon, order: tuple[str, ...]) -> None:
    loop, native = Loop(scheduled=True), Loop(attach=False, scheduled=True)
    loop.train(2)
    daemon.decide(cut(0.3))
    loop.train(3)
    native.train(5)
    assert loop.pilot is not None
    state = copy.deepcopy(loop.pilot.state_dict())
    rest = [copy.deepcopy(one.state_dict()) for one in (*loop.optimizers, *loop.schedulers)]
    resumed = Loop(scheduled=True)
    assert resumed.pilot is not None
    for what in order[1:]:
        if what == "pilot":
            resumed.pilot.load_state_dict(state)
            continue
        for one, loaded in zip((*resumed.optimizers, *resumed.schedulers), rest, strict=True):
            one.load_state_dict(loaded)
    assert resumed.lrs == loop.lrs
    daemon.decide(model_pb2.Decision(id=2, action="ACTION_RELEASE", release=True))
    resumed.train(2)
    native.train(2)
    assert resumed.lrs == native.lrs


def test_a_state_of_other_optimizers_is_refused(daemon: FakeDaemon) -> None:
    loop = Loop()
    assert loop.pilot is not None
    state = loop.pilot.state_dict()
    loop.optimizers.reverse()
    grow(loop)
    with pytest.raises(ValueError, match="has a param group '0/group 0'; there are 0/critic,"):
        loop.attach().load_state_dict(state)


def test_a_scheduler_of_none_of_them_is_refused(daemon: FakeDaemon) -> None:
    loop, other = Loop(attach=False), Loop(attach=False, scheduled=True)
    loop.schedulers = other.schedulers[:1]
    with pytest.raises(ValueError, match="ExponentialLR does not drive any optimizer that was"):
        loop.attach()


def test_a_scheduler_that_was_left_out_is_asked_for(daemon: FakeDaemon) -> None:
    loop = Loop(attach=False, scheduled=True)
    loop.schedulers.pop()
    with pytest.warns(UserWarning, match="a scheduler drives this AdamW: pass it"):
        loop.attach()


def test_what_cannot_be_controlled_is_refused_inside_a_sequence(daemon: FakeDaemon) -> None:
    loop = Loop(attach=False)
    good = loop.optimizers[0]
    for optimizers, error, text in (
        ([good, torch.optim.LBFGS(loop.model.parameters())], ValueError, "LBFGS is not supported"),
        ([good, "adam"], TypeError, "optimizer is a str"),
        ([good, good], ValueError, "an optimizer was given twice"),
        ([], ValueError, "no optimizer was given"),
    ):
        with pytest.raises(error, match=text):
            lrpilot.attach(optimizers, model=loop.model)  # type: ignore[arg-type]


def test_a_search_finds_one_factor_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder and a decoder, from LRs that are four orders of magnitude too low."""
    line, steps = Loopback(), 300
    monkeypatch.setattr(Options, "_connect", lambda _: line)
    torch.manual_seed(0)
    encoder, decoder = torch.nn.Linear(8, 8), torch.nn.Linear(8, 1)
    optimizers = [
        torch.optim.SGD(encoder.parameters(), lr=1e-6),
        torch.optim.SGD(decoder.parameters(), lr=2e-6),
    ]
    inputs = torch.randn(64, 8)
    targets = inputs @ torch.randn(8, 1)
    losses = []
    model = torch.nn.ModuleList([encoder, decoder])
    with lrpilot.attach(optimizers, model=model, total_steps=steps, search=True) as pilot:
        for rows in pilot.batches(torch.randint(0, 64, (steps, 16))):
            loss = (decoder(encoder(inputs[rows])) - targets[rows]).square().mean()
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            pilot.step(loss)
            losses.append(loss.item())
            assert pilot.lrs[1] == pytest.approx(2 * pilot.lrs[0])
    assert pilot.summary().programs > 3
    assert not pilot.searching
    assert losses[-1] < 0.05 * losses[0]
