"""What the Trainer's checkpoints keep of a run."""

import json

from lrpilot.huggingface import LRControllerCallback
from support.hugging import Runs


def test_the_state_in_a_checkpoint_is_plain_and_holds_no_secret(training: Runs) -> None:
    callback = LRControllerCallback(token="lrp_secret", monitor="eval_loss", min_lr=1e-9)
    training.run(callback, save_strategy="steps", save_steps=8)
    text = (training.folder / "checkpoint-8" / "trainer_state.json").read_text()
    kept = json.loads(text)["stateful_callbacks"]["LRControllerCallback"]
    assert kept["args"]["min_lr"] == 1e-9
    assert kept["args"]["monitor"] == "eval_loss"
    assert kept["attributes"]["saved"]["step"] == 8
    assert "secret" not in text


def test_callbacks_that_are_made_anew_from_a_checkpoint_go_on(training: Runs) -> None:
    training.run(LRControllerCallback(run="r", project="p"), save_strategy="steps", save_steps=8)
    training.run(
        LRControllerCallback(),
        resume=training.folder / "checkpoint-8",
        restore_callback_states_from_checkpoint=True,
    )
    hello = training.daemon.hello
    assert (hello.run.project, hello.run.name, hello.start_step) == ("p", "r", 8)


def test_a_second_training_begins_anew(training: Runs) -> None:
    callback = LRControllerCallback()
    run = training.run(callback, num_train_epochs=1)
    first = training.daemon.hello.attempt
    run.trainer.train()
    assert training.daemon.hello.attempt != first
    assert training.daemon.hello.start_step == 0
    assert len(training.daemon.losses) == 16


def test_a_checkpoint_of_a_run_without_us_is_counted_from_there(training: Runs) -> None:
    training.run(None, save_strategy="steps", save_steps=8)
    run = training.run(LRControllerCallback(), resume=training.folder / "checkpoint-8")
    assert run.pilot.step_count == 8
    assert training.daemon.hello.total_steps == 8
