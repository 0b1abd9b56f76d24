"""Checkpoints of the feed-forward stack in the layout in which it was published (Melas-Kyriazi 2021, names as in timm).

A convolution embeds the patches; positions are learnt on a grid. `PublishedStack` is that network, written down once
more, for checking that an import answers alike. Knows nothing of files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.architecture import STACK_NORM_EPSILON, FfStack
from models.exchange.files import ImportRefused
from models.exchange.sequential import Head

_BLOCK = re.compile(r"blocks\.(\d+)\.")
# Ours and theirs, of the halves of a block.
_HALVES = {"features": ("norm1", "mlp1"), "tokens": ("norm2", "mlp2")}


def is_published_stack(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of the published layout."""
    return "patch_embed.proj.weight" in tensors and any(".mlp2.fc1." in name for name in tensors)


def stack_of(
    tensors: Mapping[str, Tensor], head: Head, p: float = 0.0, image: tuple[int, int] | None = None
) -> tuple[FfStack, dict[str, Tensor]]:
    """The spec of a checkpoint and its tensors under the spec's names.

    A checkpoint does not say how dropout was set (`p`), nor the image's height and width: a square one unless given.
    Raises ImportRefused.
    """
    try:
        return _stack_of(tensors, head, p, image)
    except KeyError as error:
        raise ImportRefused(f"the checkpoint has no {error.args[0]}") from error
    except ValueError as error:
        raise ImportRefused(str(error)) from error


def _stack_of(
    tensors: Mapping[str, Tensor], head: Head, p: float, image: tuple[int, int] | None
) -> tuple[FfStack, dict[str, Tensor]]:
    embedding = tensors["patch_embed.proj.weight"]
    dim, channels, patch, _ = embedding.shape
    blocks = [match for name in tensors if (match := _BLOCK.match(name))]
    depth = 1 + max((int(match[1]) for match in blocks), default=-1)
    hidden, tokens = tensors["blocks.0.mlp2.fc1.weight"].shape
    side = math.isqrt(tokens - 1)
    if image is None:
        if side * side != tokens - 1:
            raise ImportRefused(f"{tokens - 1} patches make no square image: give the image's height and width")
        image = side * patch, side * patch
    if (image[0] // patch) * (image[1] // patch) != tokens - 1:
        raise ImportRefused(f"an image of {image[0]} × {image[1]} has not {tokens - 1} patches of {patch} × {patch}")
    positions, values = _positions(tensors, (image[0] // patch, image[1] // patch))
    spec = FfStack(
        image=(*image, channels) if channels > 1 else image,
        patch=patch,
        dim=dim,
        depth=depth,
        ratio=hidden // tokens,
        dropout=(p,) * depth,
        position_dropout=p,
        positions=None if positions == (image[0] // patch, image[1] // patch) else positions,
        head=head,
    )
    found = {
        "embedding.weight": embedding.reshape(dim, -1),
        "embedding.bias": tensors["patch_embed.proj.bias"],
        "class_token.token": tensors["cls_token"].reshape(-1),
        "positions.values": values,
    }
    for number in range(depth):
        for ours, (norm, mlp) in _HALVES.items():
            pairs = (("norm", norm), ("linear1", f"{mlp}.fc1"), ("linear2", f"{mlp}.fc2"))
            for here, there in pairs:
                for part in ("weight", "bias"):
                    found[f"block{number + 1}.{ours}.{here}.{part}"] = tensors[f"blocks.{number}.{there}.{part}"]
    for name in ("norm", "head"):
        for part in ("weight", "bias"):
            found[f"{name}.{part}"] = tensors[f"{name}.{part}"]
    if tuple(found["head.weight"].shape) != (head.width, dim):
        raise ImportRefused(f"the head has {found['head.weight'].shape[0]} outputs, {head.width} are asked for")
    return spec, {name: tensor.detach().float().clone() for name, tensor in found.items()}


def _positions(tensors: Mapping[str, Tensor], grid: tuple[int, int]) -> tuple[tuple[int, int], Tensor]:
    """The grid on which positions were learnt, and they, the class token's first: [1 + places, dim]."""
    if "pos_embed" in tensors:  # as vision transformers have them
        return grid, tensors["pos_embed"][0]
    places, of_class = tensors["pos_encoding.pos_embed"][0], tensors["pos_encoding.cls_pos_embed"].reshape(1, -1)
    down, across = places.shape[1:]
    return (down, across), torch.cat((of_class, places.flatten(1).T))


class _FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[…, width] → the same."""
        hidden: Tensor = self.fc1(x)
        out: Tensor = self.fc2(nn.functional.gelu(hidden))
        return out


class _PublishedBlock(nn.Module):
    def __init__(self, tokens: int, dim: int, ratio: int) -> None:
        super().__init__()
        self.norm1, self.mlp1 = nn.LayerNorm(dim, STACK_NORM_EPSILON), _FeedForward(dim, ratio * dim)
        self.norm2, self.mlp2 = nn.LayerNorm(tokens, STACK_NORM_EPSILON), _FeedForward(tokens, ratio * tokens)

    def forward(self, x: Tensor) -> Tensor:
        """[rows, tokens, dim] → the same."""
        x = x + self.mlp1(self.norm1(x))
        x = x.transpose(1, 2)
        out: Tensor = x + self.mlp2(self.norm2(x))
        return out.transpose(1, 2)


class _PublishedPatches(nn.Module):
    def __init__(self, channels: int, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, patch, patch)


class _PublishedPositions(nn.Module):
    def __init__(self, grid: tuple[int, int], dim: int) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.randn(1, dim, *grid) * 0.02)
        self.cls_pos_embed = nn.Parameter(torch.randn(1, 1, dim) * 0.02)


class PublishedStack(nn.Module):
    """The stack in its published layout, in eval mode: images [rows, channels, height, width] → head outputs."""

    def __init__(self, spec: FfStack) -> None:
        super().__init__()
        self.patch_embed = _PublishedPatches(spec.channels, spec.dim, spec.patch)
        self.cls_token = nn.Parameter(torch.randn(1, 1, spec.dim) * 0.02)
        self.pos_encoding = _PublishedPositions(spec.positions or spec.grid, spec.dim)
        self.blocks = nn.ModuleList(_PublishedBlock(spec.tokens, spec.dim, spec.ratio) for _ in range(spec.depth))
        self.norm = nn.LayerNorm(spec.dim, STACK_NORM_EPSILON)
        self.head = nn.Linear(spec.dim, spec.head.width)

    def forward(self, images: Tensor) -> Tensor:
        """[rows, channels, height, width] → [rows, outputs]."""
        x = self.patch_embed.proj(images)
        places: Tensor = self.pos_encoding.pos_embed
        if places.shape[2:] != x.shape[2:]:
            places = nn.functional.interpolate(places, x.shape[2:], mode="bilinear", align_corners=False)
        x = (x + places).flatten(2).transpose(1, 2)
        first = (self.cls_token + self.pos_encoding.cls_pos_embed).expand(len(x), -1, -1)
        x = torch.cat((first, x), dim=1)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.head(self.norm(x)[:, 0])
        return out
