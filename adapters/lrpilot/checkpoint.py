"""A pilot's state in a checkpoint: plain data, no snapshots."""

from typing import Any

from lrpilot.line import Stamp
from lrpilot.plan import Plan, plan_to_state
from lrpilot.rates import Rates
from lrpilot.run import RunInfo

STATE_VERSION = 1


def save(
    run: RunInfo,
    rates: Rates,
    stamp: Stamp,
    plan: Plan | None,
    native_lrs: list[float],
    *,
    seq: int,
    last_decision: int,
    generation: int,
) -> dict[str, Any]:
    """The state of one attempt as it is now.

    Args:
        run: which attempt.
        rates: its step and base LRs.
        stamp: its branch.
        plan: what the run itself follows; not a program's.
        native_lrs: one per param group.
        seq: the number of the newest item.
        last_decision: the highest id that arrived.
        generation: the highest of a daemon that was heard.
    """
    return {
        "version": STATE_VERSION,
        "project": run.project,
        "run": run.name,
        "attempt": run.attempt,
        "step": rates.step,
        "branch": stamp.branch,
        "seq": seq,
        "last_decision": last_decision,
        "generation": generation,
        "plan": plan_to_state(plan),
        "searched": run.searched,
        "native_lrs": native_lrs,
        "base_lrs": list(rates.base_lrs),
    }


def check(state: dict[str, Any], groups: int) -> None:
    """See that a state can be loaded for an optimizer of so many param groups.

    Raises:
        ValueError: it is of a newer LRPilot, or does not fit this optimizer.
    """
    if state.get("version") != STATE_VERSION:
        raise ValueError(
            f"the pilot's state has version {state.get('version')!r}, this LRPilot reads "
            f"{STATE_VERSION}: install the LRPilot that saved it"
        )
    if len(state["native_lrs"]) > groups:
        raise ValueError(
            f"the pilot's state has {len(state['native_lrs'])} param groups, the optimizer {groups}"
        )
