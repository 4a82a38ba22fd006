"""A small language model in Hugging Face's Trainer, with an LR far too low: alone, and searched.

Run it as it stands: `python examples/huggingface_text.py`. The text is that of Python's standard
library, nothing is downloaded; it needs `pip install "lrpilot[all,huggingface]"`.
"""

import os
import tempfile
from pathlib import Path

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from lrpilot.huggingface import LRControllerCallback

LR = 1e-6  # 3e-3 is right here
STEPS, LENGTH = 300, 32

text = "".join(path.read_text() for path in sorted(Path(os.__file__).parent.glob("[a-d]*.py")))
tokens = torch.frombuffer(bytearray(text.encode("ascii", "ignore")), dtype=torch.uint8).long()
lines = [{"input_ids": line, "labels": line} for line in tokens.unfold(0, LENGTH, LENGTH)]
train_set, held_out = lines[256:], lines[:256]


def train(callbacks: list[LRControllerCallback]) -> None:
    """Train, with LRPilot's callback or without."""
    set_seed(0)
    sizes = {"vocab_size": 128, "n_positions": LENGTH, "n_embd": 48, "n_layer": 2, "n_head": 4}
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=None, eos_token_id=None))
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model,
            TrainingArguments(
                folder,
                max_steps=STEPS,
                per_device_train_batch_size=16,
                learning_rate=LR,
                lr_scheduler_type="linear",
                warmup_steps=20,
                eval_strategy="steps",
                eval_steps=STEPS // 2,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                log_level="error",
                use_cpu=True,
                dataloader_pin_memory=False,
            ),
            train_dataset=train_set,
            eval_dataset=held_out,
            callbacks=callbacks,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        loss = trainer.evaluate()["eval_loss"]
    print(f"{'searched' if callbacks else 'alone'}: held-out loss {loss:.2f} per character")


torch.set_num_threads(1)
train([])
callback = LRControllerCallback(search=True, project="text")
train([callback])
assert callback.pilot is not None
for told in callback.pilot.decisions[-1:]:
    print(f"  step {told.applied_step}: LR {LR:.3g} -> {told.lrs_after[0]:.3g}")
