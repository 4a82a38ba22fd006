"""What the daemon is told of a run when its session opens."""

import secrets
import string
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import lrpilot
from lrpilot.plan import plan_to_state
from lrpilot.rates import Rates
from lrpilot.trainer import TrainerPort
from lrpilot_proto import reactions
from lrpilot_proto.v1 import model_pb2, session_pb2

MODES = {
    "off": "MODE_OFF",
    "observe": "MODE_OBSERVE",
    "advise": "MODE_ADVISE",
    "auto": "MODE_AUTO",
}
MODE_MEANS = {
    "off": "no signal is reported and nothing is done",
    "observe": "LRPilot only says what it would do",
    "advise": "each decision waits until a person approves it (`lrpilot approve RUN ID`)",
    "auto": "decisions are carried out",
}
LONGEST_NAME = 200


@dataclass(frozen=True)
class RunInfo:
    """One attempt of one run. Names have 1 to 200 characters and no '/'.

    `search` asks for a search before step 0; `searched` says that an earlier attempt had one, so
    that its LRs may lie further from the base LR than a guard's. `signals` are reactions by the
    kind of signal, which the operator may overrule.

    Raises:
        ValueError: a name or a number that cannot be.
    """

    project: str
    name: str
    attempt: str
    mode: str = "auto"
    total_steps: int | None = None
    steps_per_epoch: int | None = None
    world_size: int = 1
    start_step: int = 0
    resumes: str | None = None
    job: str = ""
    scheduled: bool = False
    search: bool = False
    searched: bool = False
    signals: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, name in (("project", self.project), ("run", self.name)):
            if not name or "/" in name or len(name) > LONGEST_NAME or not name.isprintable():
                raise ValueError(
                    f"{what}={name!r}: 1 to {LONGEST_NAME} printable characters without '/'"
                )
        for what, number in (
            ("total_steps", self.total_steps),
            ("steps_per_epoch", self.steps_per_epoch),
        ):
            if number is not None and (not isinstance(number, int) or number < 1):
                raise ValueError(f"{what}={number!r}: a whole number >= 1, or None")
        reactions.check(self.signals)
        if self.mode not in MODES:
            raise ValueError(f"mode={self.mode!r}: 'auto', 'advise', 'observe' or 'off'")

    @property
    def acts(self) -> bool:
        """Whether decisions are followed."""
        return self.mode in ("advise", "auto")

    def resuming(self, state: dict[str, Any]) -> "RunInfo":
        """This attempt, going on from the one that saved `state`."""
        return replace(
            self,
            project=state["project"],
            name=state["run"],
            resumes=state["attempt"],
            start_step=state["step"],
            search=False,
            searched=state.get("searched", False),
        )

    def facts(self, trainer: TrainerPort, rates: Rates, branch: int) -> dict[str, Any]:
        """What several ranks of one run must have in common."""
        return {
            "mode": self.mode,
            "search": self.search,
            "total_steps": self.total_steps,
            "step": rates.step,
            "branch": branch,
            "groups": list(trainer.group_names),
            "lrs": list(rates.base_lrs),
            "bounds": [rates.bounds.low, rates.bounds.high],
            "plan": plan_to_state(rates.plan),
            "model": trainer.can_snapshot,
        }

    def hello(
        self, trainer: TrainerPort, rates: Rates, *, programs: bool, replay: bool
    ) -> session_pb2.Hello:
        """The first message of a session; `programs` and `replay` say what can be carried out."""
        return session_pb2.Hello(
            run=model_pb2.RunName(project=self.project, name=self.name),
            attempt=self.attempt,
            resumes=self.resumes,
            client_version=lrpilot.__version__,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            groups=[
                session_pb2.ParamGroup(name=name, base_lr=lr)
                for name, lr in zip(trainer.group_names, rates.base_lrs, strict=True)
            ],
            optimizer=trainer.optimizer_name,
            mode=MODES[self.mode],
            min_lr=rates.bounds.low,
            max_lr=rates.bounds.high,
            search=self.search,
            scheduled=self.scheduled,
            signals=dict(self.signals),
            start_step=self.start_step,
            capabilities=session_pb2.Capabilities(
                snapshot=trainer.can_snapshot, program=programs, replay=replay, stop=True
            ),
            world_size=self.world_size,
            job=self.job,
        )


def mode_named(word: int) -> str | None:
    """The user's name of a mode on the wire; None for one that this version does not know."""
    names = {model_pb2.Mode.Value(name): mode for mode, name in MODES.items()}
    return names.get(word)


def new_attempt() -> str:
    """A random name for one start of a training process."""
    return secrets.token_hex(8)


def default_name() -> str:
    """`<script>-<date>-<4 letters>`."""
    path = Path(sys.argv[0] if sys.argv else "")
    script = path.parent.name if path.stem == "__main__" else path.stem
    letters = "".join(secrets.choice(string.ascii_lowercase) for _ in range(4))
    return f"{script or 'python'}-{time.strftime('%Y%m%d')}-{letters}"
