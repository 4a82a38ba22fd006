"""A run whose LR an earlier run of the same job found: the plan comes before step 0, unprobed."""

import pytest
import torch

import lrpilot
from lrpilot.torch.options import Options
from lrpilot_controller.core.events import Noticed, SearchEnded
from lrpilot_controller.core.findings import SearchEnd
from lrpilot_controller.core.settings import CoreSettings, Reuse, SearchSettings
from support.loopback import Loopback

KNOWN = 0.05
STEPS = 300


def test_a_trusted_lr_is_followed_from_step_0_and_may_be_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = CoreSettings(search=SearchSettings(reuse=Reuse.TRUST))
    line = Loopback(settings, prior=KNOWN)
    monkeypatch.setattr(Options, "_connect", lambda self: line)
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=KNOWN * 1e-3)
    batch = torch.randn(16, 4)
    lrs, kept = [], []
    with lrpilot.attach(optimizer, model=model, total_steps=STEPS, search=True) as pilot:
        for step, x in enumerate(pilot.batches([batch] * STEPS)):
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            lrs.append(optimizer.param_groups[0]["lr"])
            # From here on it looks like a blow-up.
            pilot.step(loss if step < 100 else float("nan"))
            kept.append(pilot.searching)

    [ended] = [event for event in line.record if isinstance(event, SearchEnded)]
    assert (ended.result.end, ended.result.steps) == (SearchEnd.REUSED, 0)
    assert lrs[:100] == pytest.approx([KNOWN] * 100)
    assert not any(kept)
    assert not [e for e in line.record if isinstance(e, Noticed) and e.kind == "no_search"]
    # A cut starts from the LR that was found, not from the base.
    [cut, *_] = [lr for lr in lrs if lr < 0.9 * KNOWN]
    assert cut == pytest.approx(KNOWN / 3)
