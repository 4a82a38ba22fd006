"""Two ranks of DDP over gloo, in Hugging Face's Trainer and in a loop that Accelerate prepared.

Arguments: folder, how many ranks, a free port. Rank 0's daemon is an engine in its own process.

Each rank saves `<rank>.pt`: per loop the LR of every step, the weights, and what the daemon heard.
"""

import gc
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

import lrpilot
from lrpilot.huggingface import LRControllerCallback
from lrpilot.torch.options import Options
from lrpilot_controller.core.events import ProgramEnded
from support.loopback import Loopback

STEPS, FAR = 240, 1e-5


class Net(nn.Module):
    """A small regression with dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.net(x) - labels).square().mean()}


def rows(count: int) -> Any:
    source = torch.Generator().manual_seed(1)
    x = torch.randn(count, 4, generator=source)
    return [{"x": one, "labels": one.sum(0, keepdim=True).sin()} for one in x]


def told(daemon: Loopback, model: nn.Module, lrs: list[float]) -> dict[str, Any]:
    programs = [e.losses for e in daemon.record if isinstance(e, ProgramEnded)]
    return {"lrs": lrs, "weights": list(model.parameters()), "programs": programs}


class Seen(TrainerCallback):  # type: ignore[misc]
    """Notes each step's LR, and predicts and saves on one rank alone."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.lrs: list[float] = []
        self.folder, self.rank = folder, rank

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.lrs.append(kwargs["optimizer"].param_groups[0]["lr"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.rank == 0 and state.global_step % 13 == 0:
            torch.save(kwargs["model"].state_dict(), self.folder / "alone.pt")


def in_the_trainer(folder: Path, rank: int) -> dict[str, Any]:
    daemon = Loopback()
    Options._connect = lambda _: daemon  # type: ignore[method-assign,assignment]
    seen = Seen(folder, rank)
    arguments = TrainingArguments(
        str(folder),
        use_cpu=True,
        ddp_backend="gloo",
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        dataloader_pin_memory=False,
        logging_strategy="no",
        max_steps=STEPS,
        learning_rate=FAR,
        lr_scheduler_type="constant",
        eval_strategy="steps",
        eval_steps=30,
        save_steps=100,
    )
    net = Net()
    ours = LRControllerCallback(search=True, run="r", total_steps=800)
    data = {"train_dataset": rows(160), "eval_dataset": rows(16)}
    Trainer(net, arguments, callbacks=[ours, seen], **data).train()
    return told(daemon, net, seen.lrs)


def accelerated() -> dict[str, Any]:
    daemon = Loopback()
    Options._connect = lambda _: daemon  # type: ignore[method-assign,assignment]
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    net, lrs = Net(), list[float]()
    model, optimizer, loader = accelerator.prepare(
        net, torch.optim.Adam(net.parameters(), lr=FAR), DataLoader(rows(160), 8)
    )
    with lrpilot.attach(optimizer, model=model, search=True, total_steps=800, run="a") as pilot:
        while pilot.step_count < STEPS:
            for batch in pilot.batches(loader):
                with accelerator.accumulate(model):
                    loss = model(**batch)["loss"]
                    accelerator.backward(loss)
                    optimizer.step()
                    optimizer.zero_grad()
                lrs.append(optimizer.param_groups[0]["lr"])
                pilot.step(loss)
    return told(daemon, net, lrs)


def main(rank: int, folder: Path, world: int, port: str) -> None:
    """One rank."""
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world}
    os.environ |= {name: str(number) for name, number in place.items()}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port}
    result = {"trainer": in_the_trainer(folder, rank), "accelerate": accelerated()}
    torch.save(result, folder / f"{rank}.pt")
    gc.collect()  # a reducer that outlives its process group ends the process with SIGABRT
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    where, many, free = sys.argv[1:4]
    arguments = (Path(where), int(many), free)
    # Each has what this process has imported, which takes longer than the training.
    torch.multiprocessing.start_processes(main, arguments, int(many), start_method="fork")
