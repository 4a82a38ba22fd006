"""The contract suite of the trainer port."""

from lrpilot.testing.programs import ProgramContract
from lrpilot.testing.rig import Rig
from lrpilot.trainer import ASIDE_SLOT, OWN_SLOT, SLOTS


class TrainerContract(ProgramContract):
    """What every `TrainerPort` promises, by itself and under programs."""

    def test_lrs_are_read_back_as_they_were_written(self) -> None:
        trainer = self.rig().trainer
        wanted = [lr * 0.3 for lr in trainer.get_lrs()]
        trainer.set_lrs(wanted)
        assert trainer.get_lrs() == wanted

    def test_every_group_has_a_name_and_a_base_lr(self) -> None:
        trainer = self.rig().trainer
        assert len(trainer.get_lrs()) >= 2
        assert len(trainer.group_names) == len(trainer.base_lrs) == len(trainer.get_lrs())
        assert len(set(trainer.group_names)) == len(trainer.group_names)

    def test_writing_an_lr_leaves_the_native_one(self) -> None:
        trainer = self.rig().trainer
        native = trainer.get_native_lrs()
        trainer.set_lrs([lr * 0.3 for lr in native])
        assert trainer.get_native_lrs() == native

    def test_groups_that_are_left_alone_are_not_counted(self) -> None:
        trainer = self.rig().trainer
        first, lr = trainer.group_names[0], trainer.get_lrs()[0]
        trainer.restrict([first])
        assert list(trainer.group_names) == [first]
        trainer.set_lrs([lr * 0.3])
        assert trainer.get_lrs() == [lr * 0.3]
        assert trainer.get_native_lrs() == [lr]
        assert len(trainer.base_lrs) == 1

    def test_an_lr_that_was_written_is_the_one_that_trains(self) -> None:
        moved = self.rig()
        trained = [moved.step(0), moved.step(1)]
        still = self.rig()
        still.trainer.set_lrs([0.0 for _ in still.trainer.get_lrs()])
        untrained = [still.step(0), still.step(1)]
        assert trained[0] == untrained[0]
        assert trained[1] != untrained[1]

    def test_restore_is_exact(self) -> None:
        rig = self.rig()
        for i in range(50):
            rig.step(i)
        self._replays(rig, 50)

    def test_restore_is_exact_from_before_the_first_step(self) -> None:
        self._replays(self.rig(), 0)

    def test_a_slot_can_be_used_again(self) -> None:
        rig = self.rig()
        for start in (0, 5):
            self._replays(rig, start)

    def test_a_slot_can_be_restored_twice(self) -> None:
        rig = self.rig()
        rig.trainer.snapshot(0)
        runs = []
        for _ in range(3):
            runs.append([rig.step(i) for i in range(10)])
            rig.trainer.restore(0, rng=True)
        assert runs[0] == runs[1] == runs[2]

    def test_slots_are_apart(self) -> None:
        rig = self.rig()
        rig.trainer.snapshot(0)
        first = [rig.step(i) for i in range(10)]
        rig.trainer.snapshot(1)
        second = [rig.step(i) for i in range(10)]
        rig.trainer.restore(0, rng=True)
        assert [rig.step(i) for i in range(10)] == first
        rig.trainer.restore(1, rng=True)
        assert [rig.step(i) for i in range(10)] == second

    def test_taking_a_snapshot_changes_nothing(self) -> None:
        plain = self.rig()
        expected = [plain.step(i) for i in range(20)]
        watched = self.rig()
        seen = []
        for i in range(20):
            watched.trainer.snapshot(i % 2)
            seen.append(watched.step(i))
        assert seen == expected

    def test_every_slot_is_apart_and_can_be_discarded(self) -> None:
        rig = self.rig()
        runs = []
        for slot in range(SLOTS):
            rig.trainer.snapshot(slot)
            runs.append([rig.step(i) for i in range(5)])
        for slot in (OWN_SLOT, ASIDE_SLOT):
            rig.trainer.discard(slot)
        for slot in (0, 1):
            rig.trainer.restore(slot, rng=True)
            assert [rig.step(i) for i in range(5)] == runs[slot]
        rig.trainer.snapshot(OWN_SLOT)
        again = [rig.step(i) for i in range(5)]
        rig.trainer.restore(OWN_SLOT, rng=True)
        assert [rig.step(i) for i in range(5)] == again

    def test_restore_leaves_the_lrs_alone(self) -> None:
        rig = self.rig()
        rig.trainer.snapshot(0)
        rig.step(0)
        wanted = [lr * 0.5 for lr in rig.trainer.get_lrs()]
        rig.trainer.set_lrs(wanted)
        rig.trainer.restore(0, rng=True)
        assert rig.trainer.get_lrs() == wanted

    def test_random_generators_are_restored_only_when_asked(self) -> None:
        rig = self.rig()
        rig.trainer.snapshot(0)
        first = rig.draw()
        rig.trainer.restore(0, rng=False)
        assert rig.draw() != first
        rig.trainer.restore(0, rng=True)
        assert rig.draw() == first

    def test_a_stop_reaches_the_loop(self) -> None:
        rig = self.rig()
        assert not rig.stopped()
        rig.trainer.request_stop()
        assert rig.stopped()

    @staticmethod
    def _replays(rig: Rig, start: int) -> None:
        rig.trainer.snapshot(0)
        first = [rig.step(start + i) for i in range(20)]
        rig.trainer.restore(0, rng=True)
        assert [rig.step(start + i) for i in range(20)] == first
