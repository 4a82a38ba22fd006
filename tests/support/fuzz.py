"""Sessions that no trainer would hold: valid messages, and what becomes of them when they are
mutated, cut, doubled and shuffled. The same seed gives the same bytes."""

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lrpilot_proto.v1 import model_pb2, session_pb2

Trainer = session_pb2.TrainerMessage

COUNTS = (0, 1, 2, 7, 50, 2**31, 2**32 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1)
NUMBERS = (
    0.0, -0.0, 1.0, -1.0, 0.1, 5e-324, 1e-300, 1e100, 1e300, 1.7e308, -1e300,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
WORDS = ("", "a", "a" * 201, "x" * 5000, "a/b", "nul\0nul", "é" * 100, "\u202e", "auto", "1")
KINDS = ("nonfinite", "spike", "plateau", "too_high", "unheard_of")
REACTIONS = ("off", "say", "cut", "rollback", "search", "probe", "stop", "wait", "dance")
OPTIMIZERS = ("SGD", "AdamW", "", "x" * 500)

STOPS = ("length", "length", "non_finite", "loss_cap", "ema_rise", "interrupted", "why")

LR = 0.1


class Fuzzer:
    """Makes sessions for a few runs.

    Args:
        seed: of all that is random here.
        runs: names to choose from.
    """

    def __init__(self, seed: int, runs: Sequence[str] = ("fuzzed",)) -> None:
        self._rng = random.Random(seed)
        self._runs = runs
        self._trainers: dict[str, Trainer_] = {}
        self._now: Trainer_ | None = None
        self._last: list[bytes] = [b""]

    def session(self, messages: int = 40) -> Iterator[bytes]:
        """The messages of one session, most of them as a trainer would say them.

        Each is made when it is asked for, so that it can answer what was `heard` meanwhile. Most
        sessions go on with an attempt that was there before.
        """
        rng, past = self._rng, list[bytes]()
        run = rng.choice(self._runs)
        trainer = self._trainers.get(run)
        if trainer is None or rng.random() < 0.06:
            attempt = f"{rng.getrandbits(40):x}"
            trainer = self._trainers[run] = Trainer_(rng, run, attempt, resumes=trainer)
        self._now = trainer
        breaks = rng.random() < 0.4
        for i in range(1 + rng.randrange(messages)):
            raw = trainer.next() if i else trainer.hello()
            past.append(raw)
            if breaks and rng.random() < 0.1:
                yield from self._broken(raw, past)
            else:
                yield raw
        self._last = past

    def heard(self, message: session_pb2.ControllerMessage) -> None:
        """What the daemon said in this session."""
        if self._now is not None and message.WhichOneof("body") == "decision":
            self._now.waiting.append(message.decision)

    def _broken(self, raw: bytes, past: Sequence[bytes]) -> list[bytes]:
        """What a bad line or a bad peer would make of a message."""
        rng = self._rng
        match rng.randrange(6):
            case 0:
                return [self.mutated(raw)]
            case 1:
                return [raw, raw]
            case 2:
                return [rng.choice(past), raw]
            case 3:
                return []
            case 4:
                return [rng.choice(self._last)]
            case _:
                return [spoilt(rng, raw)]

    def mutated(self, message: bytes) -> bytes:
        """The message with some of its bytes changed, cut off, doubled or from another one."""
        rng, data = self._rng, bytearray(message)
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(5):
                case 0 if data:
                    data[at % len(data)] ^= 1 << rng.randrange(8)
                case 1:
                    del data[at:]
                case 2:
                    data[at:at] = rng.randbytes(rng.randint(1, 8))
                case 3:
                    del data[at : at + rng.randint(1, 8)]
                case _:
                    other = rng.choice(self._last)
                    data[at:] = other[rng.randrange(len(other) + 1) :]
        return bytes(data)


class Trainer_:
    """One attempt's messages, as they would be, and at times with a number that cannot be."""

    def __init__(
        self, rng: random.Random, run: str, attempt: str, resumes: "Trainer_ | None"
    ) -> None:
        self._rng = rng
        self._run = run
        self.attempt = attempt
        self._resumes = resumes.attempt if resumes is not None and rng.random() < 0.9 else None
        self._groups = rng.choice((1, 1, 1, 2, 3))
        self._oddness = rng.choice((0.0, 0.01, 0.1))
        self._searches = rng.random() < 0.5
        self._step = 0
        self._seq = self._report = 1
        self._branch = 0
        self.waiting: list[Any] = []
        self._answered: Any = model_pb2.Decision(id=1)

    def hello(self) -> bytes:
        """The first message."""
        rng = self._rng
        hello = session_pb2.Hello(
            run=model_pb2.RunName(project="fuzz", name=self._run),
            attempt=self.attempt,
            groups=[session_pb2.ParamGroup(name=f"g{i}", base_lr=LR) for i in range(self._groups)],
            optimizer=rng.choice(OPTIMIZERS),
            mode=rng.choice((0, 1, 2, 3, *[4] * 20)),  # type: ignore[arg-type]
            search=self._searches,
            min_lr=LR * rng.choice((1e-6, 1e-4, 1.0)),
            max_lr=LR * rng.choice((1.0, 1e6)),
            capabilities=session_pb2.Capabilities(
                snapshot=rng.random() < 0.9,
                program=rng.random() < 0.9,
                replay=rng.random() < 0.7,
                stop=rng.random() < 0.7,
            ),
            world_size=rng.choice((0, 1, 1, 1, 2)),
            job=rng.choice(("", "job", "x" * 1000)),
            start_step=self._step if self._step <= 2**53 else 0,
        )
        if rng.random() < 0.7:
            hello.total_steps = rng.choice((0, 100, *[10_000] * 10, *COUNTS))
        if rng.random() < 0.2:
            hello.steps_per_epoch = rng.choice((0, 1, 10, *COUNTS))
        if rng.random() < 0.3:
            hello.signals[rng.choice(KINDS)] = rng.choice(REACTIONS)
        if self._resumes is not None:
            hello.resumes = self._resumes
        if rng.random() < 0.9:  # what a broken session left behind is given up
            hello.oldest_seq, hello.oldest_report = self._seq, self._report
        if rng.random() < 0.2:
            hello.plan.kind = rng.choice((0, 1, 2))  # type: ignore[assignment]
            hello.plan.segments.add(shape=rng.randint(0, 8), start=0, end=rng.choice(COUNTS))  # type: ignore[arg-type]
            hello.plan.segments[0].start_value = rng.choice(NUMBERS)
            hello.plan.segments[0].end_value = rng.choice(NUMBERS)
        if rng.random() < self._oddness:
            _odd(rng, hello)
        return Trainer(hello=hello).SerializeToString()

    def next(self) -> bytes:
        """Another message."""
        rng = self._rng
        if self.waiting and rng.random() < 0.8:
            return self._answer(self.waiting.pop(0))
        if self._answered.HasField("program") and rng.random() < 0.8:
            return self._carry_out(self._answered.program)
        if self._report > 1 and rng.random() < 0.6:
            return self._telemetry()
        report = session_pb2.Report(report_seq=self._report, before_seq=self._seq)
        self._report += 1
        if self._report == 2 and rng.random() < 0.8:
            self._snapshot(report)
        else:
            _BODIES[rng.randrange(len(_BODIES))](self, report)
        if rng.random() < self._oddness:
            _odd(rng, report)
        return Trainer(report=report).SerializeToString()

    def _answer(self, decision: Any) -> bytes:
        """Apply a decision, mostly."""
        rng, self._answered = self._rng, decision
        applied = rng.random() < 0.9
        self._branch += applied and decision.HasField("restore_snapshot")
        lrs = [LR * rng.choice((1.0, 1.0, 0.1))] * rng.choice((self._groups, self._groups, 0))
        receipt = model_pb2.Receipt(
            decision_id=decision.id,
            status=model_pb2.DECISION_STATUS_APPLIED if applied else rng.randint(0, 9),  # type: ignore[arg-type]
            applied_step=self._step,
            branch_after=self._branch,
            lrs_before=lrs,
            lrs_after=lrs,
        )
        report = session_pb2.Report(report_seq=self._report, before_seq=self._seq)
        self._report += 1
        if decision.save_snapshot:  # told of first
            decision.save_snapshot = False
            self.waiting.insert(0, decision)
            self._snapshot(report)
        else:
            report.receipt.CopyFrom(receipt)
        return Trainer(report=report).SerializeToString()

    def _carry_out(self, program: Any) -> bytes:
        """The result of a program, with losses that fall, rise, or are no numbers."""
        rng, self._answered = self._rng, model_pb2.Decision(id=self._answered.id)
        length = program.length if rng.random() < 0.85 else rng.choice((0, 1, 2, 500))
        slope, level = (
            rng.choice((-0.05, -0.01, 0.0, 0.5)),
            rng.choice((2.0, 2.0, 2.0, 1e90, 1e300)),
        )
        losses = [
            level * (1 + slope * i / 10 + rng.gauss(0, 0.01)) for i in range(min(length, 500))
        ]
        if losses and rng.random() < 2 * self._oddness:
            losses[rng.randrange(len(losses))] = rng.choice(NUMBERS)
        result = session_pb2.ProgramResult(
            id=program.id,
            first_step=self._step,
            losses=losses,
            stop_reason="length" if rng.random() < 0.85 else rng.choice(STOPS),
            branch=self._branch,
        )
        report = session_pb2.Report(report_seq=self._report, before_seq=self._seq, program=result)
        self._report += 1
        self._step += len(losses)
        return Trainer(report=report).SerializeToString()

    def _telemetry(self) -> bytes:
        rng = self._rng
        rows = rng.choice((1, 3, 8, 30))
        level = rng.choice((1.0, 1.0, 1.0, 50.0, 1e6))
        losses = [level * (1 + 0.01 * rng.random()) for _ in range(rows)]
        if rng.random() < 3 * self._oddness:
            losses[rng.randrange(rows)] = rng.choice(NUMBERS)
        telemetry = session_pb2.Telemetry(
            first_seq=self._seq,
            kind=[1 + (rng.random() < 0.05) for _ in range(rows)],  # type: ignore[misc]
            step=range(self._step, self._step + rows),
            branch=[self._branch] * rows,
            program=[rng.choice((0, 0, 0, 1))] * rows,
            loss=losses,
            lrs=[LR] * (self._groups * rng.choice((1, rows))),
        )
        self._seq += rows
        self._step += rows if rng.random() < 0.98 else rng.choice(COUNTS[:6])
        if rng.random() < self._oddness:
            _odd(rng, telemetry)
        return Trainer(telemetry=telemetry).SerializeToString()

    def _receipt(self, report: Any) -> None:
        rng = self._rng
        report.receipt.CopyFrom(
            model_pb2.Receipt(
                decision_id=rng.choice((self._answered.id, *COUNTS)),
                status=rng.randint(0, 9),  # type: ignore[arg-type]
                applied_step=self._step,
                branch_before=self._branch,
                branch_after=self._branch,
                lrs_before=[LR] * rng.randrange(3),
                lrs_after=[rng.choice((LR, *NUMBERS[:11]))] * rng.randrange(3),
                wait_seconds=rng.choice(NUMBERS),
                detail=rng.choice(WORDS),
            )
        )

    def _snapshot(self, report: Any) -> None:
        first = self._report == 2
        report.snapshot.CopyFrom(
            session_pb2.SnapshotTaken(
                id=self._report, step=self._step, branch=self._branch, proven=first
            )
        )

    def _program(self, report: Any) -> None:
        rng = self._rng
        losses = [rng.choice((1.0, 1.1, *NUMBERS))] * rng.choice((0, 1, 2, 6, 6, 6, 12, 100))
        report.program.CopyFrom(
            session_pb2.ProgramResult(
                id=self._answered.id,
                first_step=self._step,
                losses=losses,
                stop_reason=rng.choice(STOPS),
                wait_seconds=rng.choice(NUMBERS),
                branch=self._branch,
            )
        )

    def _fallback(self, report: Any) -> None:
        report.fallback.program, report.fallback.step = self._answered.id, self._step
        report.fallback.branch, report.fallback.reason = self._branch, self._rng.choice(WORDS)

    def _request(self, report: Any) -> None:
        report.request.kind = self._rng.choice(("search", "finish", "dance"))
        report.request.step, report.request.steps = self._step, self._rng.choice(COUNTS)

    def _notice(self, report: Any) -> None:
        report.notice.kind, report.notice.text = self._rng.choice(WORDS), self._rng.choice(WORDS)

    def _goodbye(self, report: Any) -> None:
        report.goodbye.reason, report.goodbye.step = self._rng.choice(WORDS), self._step


_BODIES: tuple[Callable[[Trainer_, Any], None], ...] = (
    Trainer_._receipt,
    Trainer_._receipt,
    Trainer_._receipt,
    Trainer_._snapshot,
    Trainer_._snapshot,
    Trainer_._program,
    Trainer_._program,
    Trainer_._fallback,
    Trainer_._request,
    Trainer_._notice,
    Trainer_._goodbye,
)


def spoilt(rng: random.Random, raw: bytes) -> bytes:
    """A message, valid as bytes, with one field somewhere that no trainer would send."""
    message = Trainer()
    try:
        message.ParseFromString(raw)
    except Exception:
        return raw
    _odd(rng, message)
    return message.SerializeToString()


def _odd(rng: random.Random, message: Any) -> None:
    """Give one field of a message, or of one within it, a value that is at the edge or beyond."""
    fields = [field for field in message.DESCRIPTOR.fields if not _is_map(field)]
    field = rng.choice(fields)
    if field.message_type is not None:
        if not field.is_repeated:
            _odd(rng, getattr(message, field.name))
        elif inner := getattr(message, field.name):
            _odd(rng, rng.choice(inner))
        return
    value = _value(rng, field)
    if not field.is_repeated:
        setattr(message, field.name, value)
        return
    column = getattr(message, field.name)
    if column and rng.random() < 0.7:
        column[rng.randrange(len(column))] = value
    else:
        column.append(value)


def _is_map(field: Any) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _value(rng: random.Random, field: Any) -> Any:
    match field.cpp_type:
        case field.CPPTYPE_STRING:
            return rng.choice(WORDS)
        case field.CPPTYPE_DOUBLE:
            return rng.choice(NUMBERS)
        case field.CPPTYPE_BOOL:
            return rng.random() < 0.5
        case field.CPPTYPE_UINT64:
            return rng.choice(COUNTS)
        case field.CPPTYPE_ENUM:
            return rng.randint(-1, 10)
    return rng.choice([count for count in COUNTS if count < 2**32])


def load(corpus: bytes) -> list[bytes]:
    """The messages of a kept session: each is preceded by its length in four bytes."""
    messages = []
    while corpus:
        length = int.from_bytes(corpus[:4], "big")
        messages.append(corpus[4 : 4 + length])
        corpus = corpus[4 + length :]
    return messages


def dump(messages: Sequence[bytes]) -> bytes:
    """A session to keep."""
    return b"".join(len(raw).to_bytes(4, "big") + raw for raw in messages)
