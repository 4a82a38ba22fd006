"""The pilot: one run's control inside the training process, at step boundaries only.

`step` reads the loss, hands it to the transport and applies what the daemon decided. It does no
I/O, takes no contended lock and never raises for a fault of the controller: whatever goes wrong
there, training goes on with the plan in force.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from lrpilot.attempt import Attempt
from lrpilot.decisions import AppliedDecision
from lrpilot.losses import BadLoss
from lrpilot.replay import again
from lrpilot.summary import Summary

T = TypeVar("T")


class Pilot(Attempt):
    """Streams a run's losses and applies decisions; made by `lrpilot.attach`.

    Step k is the k-th optimizer step that the run executed, from 0. Not thread-safe: every method
    belongs to the training thread. For its arguments see `Parts`.
    """

    # -- what a training loop calls

    def step(self, loss: Any) -> None:
        """Report one optimizer step's loss and apply what is due; once per optimizer step.

        One that a GradScaler skipped is a step as well; micro-batches are not: report their mean.

        At the end of a program it waits for the daemon's word: 250 ms at most, and in all 2 s
        and 1 % of the run's wall time.

        Args:
            loss: a float or a tensor of one element; a device tensor is not waited for.

        Raises:
            BadLoss: the loss is neither; a TypeError.
        """
        line, rates, stamp = self._line, self._rates, self._stamp
        k, program = rates.step, stamp.program
        if line is None:
            rates.step = k + 1
            return
        try:
            row = (line.next_seq(), k, stamp.branch, program, rates.read())
            value = self._losses.read(loss, row)
            if value is not None:
                line.train(row, value)
            elif control := self._control:
                control.runner.deliver(self._losses.ready(flush=program > 0))
            rates.step = after = k + 1
            if not self._begun:
                self._begin(line)
            lockstep, take = self._lockstep, False
            if lockstep is not None and after >= lockstep.next_step and (control := self._control):
                take = control.meet(after)
            if (program or line.inbox) and (control := self._control):
                control.boundary(program, value)
            if rates.plan is not None:
                rates.advance()
            snapshots = self._snapshots
            if lockstep is None:
                take = snapshots is not None and after >= snapshots.next_step
            if take and (control := self._control):
                control.helm.take()
            if lockstep is not None and lockstep.why:
                self._apart(lockstep)
            if self._diary is not None:
                self._diary.stepped(k, row[4])
        except BadLoss:
            raise
        except Exception as error:
            rates.step = k + 1
            self._give_up(error)

    def count(self, steps: int) -> None:
        """Count optimizer steps whose loss is not known; the plan in force moves on with them.

        An open program ends before: it needs the loss of each of its steps.

        Args:
            steps: how many were made since the last `step` or `count`.
        """
        line, rates = self._line, self._rates
        if line is None or self._control is None:
            rates.step += steps
            return
        try:
            self._control.give_up()
            rates.read()
            rates.step += steps
            if rates.plan is not None:
                rates.write()
        except Exception as error:
            self._give_up(error)

    def set_native(self, lrs: Sequence[float]) -> None:
        """Take these for the native LRs, one per param group; the plan in force scales them.

        For adapters whose framework moves the native LRs itself.
        """
        try:
            self._rates.set_native(lrs)
        except Exception as error:
            self._give_up(error)

    def validate(self, value: Any) -> None:
        """Report a validation loss of the weights as they are now.

        Raises:
            BadLoss: the value is neither a float nor a tensor of one element; a TypeError.
        """
        number = self._losses.number(value)
        line, rates, control, stamp = self._line, self._rates, self._control, self._stamp
        if line is None or control is None:
            return
        try:
            control.runner.deliver(self._losses.drain())  # items go in the order of their numbers
            program = 0 if control.runner.own_weights else stamp.program
            row = (line.next_seq(), rates.step, stamp.branch, program, rates.row)
            line.validation(row, number)
            if not self._opened:
                self._open(line)
        except Exception as error:
            self._give_up(error)

    def batches(self, loader: Iterable[T]) -> Iterator[T]:
        """The loader's batches, as many as it has; a search serves some of them again.

        A program of a search trains on copies of the batches that the search began with, so that
        it is compared on the same data; the loader is asked for its batch all the same.
        """
        if self._control is None:
            yield from loader
            return
        for batch in self._control.feed(loader):
            if (self._run.search or self._lockstep is not None) and not self._started:
                self.start()  # no forward pass was made: the first program trains like all others
            yield batch
            del batch

    def serve(self, batch: T) -> T:
        """What is trained on in the place of `batch`; for adapters whose framework has the loop.

        Called for each batch before its forward pass. A program that was set aside goes on, and
        the run starts with the first one.
        """
        if self._control is None or not self.serves:
            return batch
        self.go_on()
        served = self._control.replay.serve(batch)
        self.start()
        return served

    @property
    def serves(self) -> bool:
        """Whether `serve` has anything to do; for adapters that would prepare for it."""
        control = self._control
        return control is not None and (
            not self._started or control.replay.active or control.runner.searching
        )

    def go_on(self) -> None:
        """Put a program that was set aside back, where a batch follows; `serve` does so as well.

        For adapters: before a loader begins anew, which may draw from the program's generators.
        """
        if self._control is not None:
            try:
                self._control.runner.go_on()
            except Exception as error:
                self._give_up(error)

    def search(
        self,
        step_fn: Callable[[T], Any] | None = None,
        loader: Iterable[T] | None = None,
    ) -> None:
        """Search the LR: from the training loop, or here and now.

        Without arguments the daemon is asked, and the programs of the search run in the loop that
        goes on. With both, the search runs before this returns: found, declined, or given up
        because no daemon answered within `connect_timeout`. `attach(search=True)` asks as well;
        nothing is asked for twice.

        Args:
            step_fn: makes one whole training step on a batch (forward, backward, optimizer step,
                gradients set to zero) and returns its loss.
            loader: gives the batches, from its beginning as often as is needed.

        Raises:
            TypeError: one of the two is given without the other.
            ValueError: the loader has no batch.
        """
        if (step_fn is None) != (loader is None):
            raise TypeError("search takes step_fn and loader together, or neither")
        began = self._started
        if not self._ask_search() or step_fn is None or loader is None:
            return
        if began and not self.searching and self._control is not None:
            self._control.replay.record()
        for batch in self.batches(again(loader)):  # which waits for the search before step 0
            if began:
                self._await_search()
                began = False
            if not self.searching or self.should_stop:
                return
            self.step(step_fn(batch))
            if not self.searching or self.should_stop:
                return
        self.settle()  # the loader gave out: the search goes on in the loop

    def add_scheduler(self, scheduler: Any) -> None:
        """Take on one more scheduler of yours, made since `attach`, such as SWA's in mid-run.

        Call it once the scheduler is made; go on calling `scheduler.step()`.

        Raises:
            ValueError: it drives none of the optimizers that were given to `attach`.
        """
        if self._line is not None and self._run.acts:  # else nothing is ever written
            self._trainer.add_scheduler(scheduler)

    def finish(self, steps: int) -> None:
        """Decay from here on: a straight line from the LR in force to 0 over `steps`.

        For runs whose horizon was not known, or has changed. It begins at once, whether a daemon
        answers or not; an open program ends first.

        Args:
            steps: optimizer steps that are still to be made.

        Raises:
            ValueError: not a whole number of 1 or more.
        """
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps={steps!r}: a whole number >= 1")
        if self._line is None or self._control is None:
            return
        try:
            self._control.finish(steps)
        except Exception as error:
            self._give_up(error)

    @property
    def lrs(self) -> list[float]:
        """The LR of each param group, as the optimizer has it now."""
        return self._trainer.get_lrs()

    @property
    def step_count(self) -> int:
        """Optimizer steps that the run executed, rolled-back ones included."""
        return self._rates.step

    @property
    def should_stop(self) -> bool:
        """Whether a decision or a person asked the loop to end."""
        return self._control is not None and self._control.stop

    @property
    def searching(self) -> bool:
        """Whether a search is under way: its programs have the weights."""
        return self._control is not None and self._control.runner.searching

    @property
    def progress(self) -> str:
        """How far the search is, in one line for a person; empty without one."""
        return self._control.runner.progress if self._control is not None else ""

    @property
    def decisions(self) -> list[AppliedDecision]:
        """The decisions that reached this process, in order, and what became of them."""
        return list(self._judge.history)

    def summary(self) -> Summary:
        """What LRPilot did in this process, and what it cost."""
        return Summary.of(
            self._run,
            self._rates.step,
            self._judge.history,
            self._transport,
            self._snapshots,
            self._patience.seconds,
        )
