"""Models of the quality benchmark's tasks: small, and unlike each other.

All of them answer zero (for a classifier: a uniform guess) when all their parameters are zero.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def mlp(
    *sizes: int, activation: type[nn.Module], batch_norm: bool = False, dropout: float = 0.0
) -> nn.Sequential:
    """Linear layers with `activation`, BatchNorm and dropout between them."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes[:-1]):
        layers.append(nn.Linear(before, after))
        if batch_norm:
            layers.append(nn.BatchNorm1d(after))
        layers.append(activation())
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def image_conv_net(classes: int) -> nn.Sequential:
    """Three convolutions over 8 x 8 pixels, without normalisation."""
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(24, 24, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24 * 4, classes),
    )


def signal_conv_net(classes: int) -> nn.Sequential:
    """Three strided 1-D convolutions with GroupNorm, averaged over time."""
    return nn.Sequential(
        nn.Conv1d(1, 16, 7, stride=2, padding=3),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        nn.Conv1d(16, 24, 5, stride=2, padding=2),
        nn.GroupNorm(4, 24),
        nn.ReLU(),
        nn.Conv1d(24, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(32, classes),
    )


class _Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, activation: nn.Module, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            activation,
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        joint = self.query_key_value(self.attention_norm(x))
        parts = joint.view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        x = x + self.mix(attended.transpose(1, 2).reshape(batch, length, width))
        hidden: Tensor = self.mlp(x)
        return x + hidden


class PatchTransformer(nn.Module):
    """A small ViT: 16 patches of 2 x 2 pixels, learned positions, the mean as the summary."""

    def __init__(self, classes: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.positions = nn.Parameter(0.02 * torch.randn(16, width))
        self.blocks = nn.Sequential(
            *(_Block(width, heads, nn.GELU(), causal=False) for _ in range(layers))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        logits: Tensor = self.head(self.norm(self.blocks(x)).mean(1))
        return logits


class CharTransformer(nn.Module):
    """Predicts every next character of a window."""

    def __init__(
        self,
        characters: int,
        context: int,
        *,
        width: int,
        heads: int,
        layers: int,
        activation: type[nn.Module],
    ) -> None:
        super().__init__()
        self.characters = nn.Embedding(characters, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.Sequential(
            *(_Block(width, heads, activation(), causal=True) for _ in range(layers))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, characters)

    def forward(self, codes: Tensor) -> Tensor:
        x = self.characters(codes) + self.positions.weight
        logits: Tensor = self.head(self.norm(self.blocks(x)))
        return logits


class CharGRU(nn.Module):
    """Predicts every next character of a window, from left to right; without normalisation."""

    def __init__(self, characters: int, embedding: int, width: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(characters, embedding)
        self.gru = nn.GRU(embedding, width, batch_first=True)
        self.head = nn.Linear(width, characters)

    def forward(self, codes: Tensor) -> Tensor:
        states, _ = self.gru(self.characters(codes))
        logits: Tensor = self.head(states)
        return logits


class Factors(nn.Module):
    """A matrix as the product of two thin ones; answers entries at (row, column)."""

    def __init__(self, rows: int, columns: int, rank: int) -> None:
        super().__init__()
        self.left = nn.Parameter(0.3 * torch.randn(rows, rank))
        self.right = nn.Parameter(0.3 * torch.randn(columns, rank))

    def forward(self, places: Tensor) -> Tensor:
        return (self.left[places[:, 0]] * self.right[places[:, 1]]).sum(1)


class Linear(nn.Module):
    """One weight per feature, from zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))

    def forward(self, features: Tensor) -> Tensor:
        return features @ self.weight
