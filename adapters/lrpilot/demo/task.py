"""The demo's training task: a small character transformer on Python's own standard library.

Nothing is downloaded, and one run takes seconds on one CPU thread. Under SGD with momentum and
without gradient clipping the learning rate has a sharp edge: up to about 1.3 x `BEST_LR` the model
trains well, and from about 3 x on its loss overflows within tens of steps.
"""

import functools
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# The best constant rate of a grid of four per decade, on mean validation loss over ten seeds; the
# next rate up (0.316) overflows for three of the ten.
BEST_LR = 0.178
TOTAL_STEPS = 600

Batch = tuple[Tensor, Tensor]

_MODULES = (
    "argparse ast bdb calendar cmd codecs configparser copy csv datetime decimal difflib dis "
    "doctest enum fileinput fractions ftplib functools getopt gettext glob gzip heapq imaplib "
    "inspect locale mailbox mimetypes optparse pdb pickle platform plistlib pydoc random "
    "shutil smtplib socket statistics string subprocess tarfile tempfile textwrap threading "
    "timeit tokenize trace traceback turtle typing uuid"
)
_MIN_CHARS = 100_000  # less than this, and the source of the standard library is not installed
VOCABULARY = 97  # every other character (0), printable ASCII (1 to 95), newline (96)
_CONTEXT = 32
_BATCH = 16
_WIDTH = 64
_HEADS = 4
_LAYERS = 2
_VALIDATION_WINDOWS = 256


class _Block(nn.Module):
    """A pre-norm transformer block with squared ReLU, as in Primer."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(_WIDTH)
        self.query_key_value = nn.Linear(_WIDTH, 3 * _WIDTH, bias=False)
        self.mix = nn.Linear(_WIDTH, _WIDTH, bias=False)
        self.mlp_norm = nn.LayerNorm(_WIDTH)
        self.up = nn.Linear(_WIDTH, 4 * _WIDTH)
        self.down = nn.Linear(4 * _WIDTH, _WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attend(self.attention_norm(x))
        hidden: Tensor = self.down(F.relu(self.up(self.mlp_norm(x))).square())
        return x + hidden

    def _attend(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        heads = self.query_key_value(x).view(batch, length, 3, _HEADS, width // _HEADS)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        mixed: Tensor = self.mix(attended.transpose(1, 2).reshape(batch, length, width))
        return mixed


class _CharTransformer(nn.Module):
    """Predicts each next character of windows of `_CONTEXT` characters; PyTorch's default init."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = nn.Embedding(VOCABULARY, _WIDTH)
        self.positions = nn.Embedding(_CONTEXT, _WIDTH)
        self.blocks = nn.Sequential(*(_Block() for _ in range(_LAYERS)))
        self.head = nn.Linear(_WIDTH, VOCABULARY, bias=False)

    def forward(self, codes: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.characters(codes) + self.positions.weight))
        return logits


@dataclass
class DemoTask:
    """One seeded training run: the same seed gives the same weights and the same batches."""

    model: nn.Module
    seed: int

    def optimizer(self, lr: float) -> torch.optim.Optimizer:
        """Returns SGD with momentum over the model's parameters."""
        return torch.optim.SGD(self.model.parameters(), lr=lr, momentum=0.9)

    def batches(self) -> Iterator[Batch]:
        """Yields (inputs, targets) without end, from the first batch on in each call."""
        text, _ = texts()
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            yield _windows(
                text, torch.randint(len(text) - _CONTEXT, (_BATCH,), generator=generator)
            )

    def loss(self, batch: Batch) -> Tensor:
        """Returns the mean cross-entropy, in nats per character."""
        inputs, targets = batch
        return F.cross_entropy(self.model(inputs).flatten(0, 1), targets.flatten())

    @torch.no_grad()
    def validate(self) -> float:
        """Returns the mean loss on the held-out text, over windows that never change."""
        _, text = texts()
        starts = torch.linspace(0, len(text) - _CONTEXT - 1, _VALIDATION_WINDOWS).long()
        was_training = self.model.training
        self.model.eval()
        value = self.loss(_windows(text, starts)).item()
        self.model.train(was_training)
        return value


def demo_task(seed: int) -> DemoTask:
    """Builds the task; the global random state is left as it was.

    Raises:
        RuntimeError: The source of the standard library is not installed.
    """
    texts()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DemoTask(_CharTransformer(), seed)


@functools.cache
def texts() -> Batch:
    """Returns the training text and the held-out text, the last tenth of every module."""
    library = Path(sysconfig.get_path("stdlib"))
    sources = [
        path.read_bytes() for name in _MODULES.split() if (path := library / f"{name}.py").is_file()
    ]
    if sum(map(len, sources)) < _MIN_CHARS:
        raise RuntimeError(f"the demo trains on Python's own source, and {library} has too little")
    cuts = [len(source) * 9 // 10 for source in sources]
    training = b"".join(source[:cut] for source, cut in zip(sources, cuts, strict=True))
    held_out = b"".join(source[cut:] for source, cut in zip(sources, cuts, strict=True))
    return _encode(training), _encode(held_out)


def _encode(text: bytes) -> Tensor:
    codes = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    printable = torch.where((codes >= 32) & (codes < 127), codes - 31, 0)
    return torch.where(codes == 10, VOCABULARY - 1, printable)


def _windows(text: Tensor, starts: Tensor) -> Batch:
    rows = text[starts[:, None] + torch.arange(_CONTEXT + 1)]
    return rows[:, :-1], rows[:, 1:]
