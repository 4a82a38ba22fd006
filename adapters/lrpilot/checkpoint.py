"""A pilot's state in a checkpoint: plain data, no snapshots."""

from collections.abc import Sequence
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
    group_names: Sequence[str],
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
        group_names: one per param group.
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
        "groups": list(group_names),
        "base_lrs": list(rates.base_lrs),
    }


def check(state: dict[str, Any], group_names: Sequence[str]) -> list[str]:
    """See that a state can be loaded where there are these param groups.

    Returns:
        The names of the groups that it is of; one that was added since the run began is not.

    Raises:
        ValueError: it is of a newer LRPilot, or does not fit these groups.
    """
    if state.get("version") != STATE_VERSION:
        raise ValueError(
            f"the pilot's state has version {state.get('version')!r}, this LRPilot reads "
            f"{STATE_VERSION}: install the LRPilot that saved it"
        )
    count = len(state["native_lrs"])
    if count == len(group_names):
        return list(group_names)
    if count > len(group_names):
        raise ValueError(
            f"the pilot's state has {count} param groups, the optimizer {len(group_names)}"
        )
    names: list[str] = state.get("groups", group_names[:count])  # older states have no names
    if missing := [name for name in names if name not in group_names]:
        there = ", ".join(group_names)
        raise ValueError(f"the pilot's state has a param group {missing[0]!r}; there are {there}")
    return names
