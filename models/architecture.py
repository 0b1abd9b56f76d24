"""Architecture specs: frozen, validated values that say what a network is, with JSON both ways.

A spec holds no weights and builds nothing; `layers()` spells it out for those who do.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.layers import (
    Activation,
    ActivationName,
    Block,
    ClassToken,
    Dropout,
    FirstToken,
    Layer,
    Linear,
    Norm,
    NormName,
    Patches,
    Positions,
    Transpose,
)

Probability = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]
Width = Annotated[int, Field(ge=1, le=65536, strict=True)]

VARIANCE_FLOOR = 1e-6  # of a variance head, in standardised units: training, evaluation and engine share it
DEFAULT_P = 0.5  # Srivastava et al. 2014, and torch.nn.Dropout


class _Spec(BaseModel):
    """What all specs share: no unknown fields, no changes after validation, JSON lists become tuples."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RegressionHead(_Spec):
    """Predicts `outputs` numbers per row; with `variance`, also how noisy each of them is.

    A variance head emits 2 × outputs numbers: the means first, then the pre-activations s of the variances,
    variance = softplus(s) + 1e-6 in standardised units (Lakshminarayanan et al. 2017).
    """

    kind: Literal["regression"] = "regression"
    outputs: Width = 1
    variance: bool = False

    @property
    def width(self) -> int:
        """Numbers the last linear layer emits per row."""
        return 2 * self.outputs if self.variance else self.outputs


class ClassificationHead(_Spec):
    """Predicts one logit for each of `classes` classes."""

    kind: Literal["classification"] = "classification"
    classes: Annotated[int, Field(ge=2, le=65536, strict=True)]

    @property
    def width(self) -> int:
        """Numbers the last linear layer emits per row."""
        return self.classes


Head: TypeAlias = Annotated[RegressionHead | ClassificationHead, Field(discriminator="kind")]


class Mlp(_Spec):
    """A multi-layer perceptron: hidden blocks of linear → norm → activation → dropout, then a linear head.

    `dropout` is one p per hidden layer (a single number is taken for all of them); every hidden layer has a
    dropout site, even with p = 0. `input_dropout` above 0 adds a site on the standardised inputs. With
    `residual`, a hidden block whose input and output have the same width adds its input to its output.
    """

    kind: Literal["mlp"] = "mlp"
    inputs: Width
    hidden: Annotated[tuple[Width, ...], Field(min_length=1, max_length=256)]
    activation: ActivationName = "relu"
    norm: NormName = "none"
    dropout: tuple[Probability, ...] = ()
    input_dropout: Probability = 0.0
    inplace: bool = False
    residual: bool = False
    head: Head

    @model_validator(mode="before")
    @classmethod
    def _one_p_for_all(cls, values: Any) -> Any:
        """A single p, or none at all, stands for every hidden layer."""
        if not isinstance(values, dict) or not isinstance(values.get("hidden"), (list, tuple)):
            return values
        p = values.get("dropout", DEFAULT_P)
        if isinstance(p, (int, float)) and not isinstance(p, bool):
            values = {**values, "dropout": [p] * len(values["hidden"])}
        return values

    @model_validator(mode="after")
    def _shapes_agree(self) -> Mlp:
        if len(self.dropout) != len(self.hidden):
            raise ValueError(
                f"dropout has {len(self.dropout)} probabilities for {len(self.hidden)} hidden layers: "
                "give one for each, or a single number for all"
            )
        if self.residual and not any(a == b for a, b in zip((self.inputs, *self.hidden), self.hidden, strict=False)):
            raise ValueError("residual needs at least one hidden layer as wide as the layer before it")
        return self

    def layers(self) -> tuple[Layer, ...]:
        """The network, spelled out; names are those of the tensors in the state dict."""
        parts: list[Layer] = []
        if self.input_dropout > 0:
            # Never in place: the rows are the caller's.
            parts.append(Dropout("input_dropout", self.inputs, self.input_dropout))
        before = self.inputs
        for number, (width, p) in enumerate(zip(self.hidden, self.dropout, strict=True), start=1):
            inner: list[Layer] = [Linear("linear", before, width)]
            if self.norm != "none":
                inner.append(Norm("norm", self.norm, width))
            inner.append(Activation("activation", self.activation, width))
            inner.append(Dropout("dropout", width, p, self.inplace))
            parts.append(Block(f"hidden{number}", tuple(inner), residual=self.residual and before == width))
            before = width
        parts.append(Linear("head", before, self.head.width))
        return tuple(parts)


STACK_NORM_EPSILON = 1e-6
Side = Annotated[int, Field(ge=1, le=4096, strict=True)]


class FfStack(_Spec):
    """A stack of feed-forward layers over patches of an image (Melas-Kyriazi 2021): no attention, no convolution.

    Patches → linear embedding → class token before them → learned positions → position dropout → `depth` blocks →
    layer norm → linear head on the class token. A block has two residual halves: x + FF(LN(x)) over the `dim` features
    of each token, then the same over the tokens of each feature; FF = linear → GELU → dropout → linear → dropout, with
    `ratio` times as many hidden units as inputs. `dropout` is one p per block, for its four sites (a single number is
    taken for all). Positions that were learnt on another grid than that of the patches (`positions`: its height and
    width) are resampled bilinearly. Inputs are the image's numbers, row by row: height × width × channels.
    """

    kind: Literal["ff_stack"] = "ff_stack"
    image: tuple[Side, Side] | tuple[Side, Side, Side]
    patch: Side
    dim: Width
    depth: Annotated[int, Field(ge=1, le=256, strict=True)]
    ratio: Annotated[int, Field(ge=1, le=16, strict=True)] = 4
    dropout: tuple[Probability, ...] = ()
    position_dropout: Probability = 0.0
    positions: tuple[Side, Side] | None = None
    inplace: bool = False
    head: Head

    @model_validator(mode="before")
    @classmethod
    def _one_p_for_all(cls, values: Any) -> Any:
        """A single p, or none at all, stands for every block."""
        if not isinstance(values, dict) or type(values.get("depth")) is not int:
            return values
        p = values.get("dropout", DEFAULT_P)
        if isinstance(p, (int, float)) and not isinstance(p, bool):
            values = {**values, "dropout": [p] * min(values["depth"], 256)}
        return values

    @model_validator(mode="after")
    def _shapes_agree(self) -> FfStack:
        if len(self.dropout) != self.depth:
            raise ValueError(
                f"dropout has {len(self.dropout)} probabilities for {self.depth} blocks: "
                "give one for each, or a single number for all"
            )
        if self.image[0] % self.patch or self.image[1] % self.patch:
            raise ValueError(f"patches of {self.patch} do not fill an image of {self.image[0]} × {self.image[1]}")
        return self

    @property
    def channels(self) -> int:
        """Numbers of a pixel; an image without channels has one."""
        return self.image[2] if len(self.image) == 3 else 1

    @property
    def inputs(self) -> int:
        """Numbers of an image."""
        return self.image[0] * self.image[1] * self.channels

    @property
    def grid(self) -> tuple[int, int]:
        """Patches from top to bottom, and from left to right."""
        return self.image[0] // self.patch, self.image[1] // self.patch

    @property
    def tokens(self) -> int:
        """Patches and the class token."""
        return self.grid[0] * self.grid[1] + 1

    def layers(self) -> tuple[Layer, ...]:
        """The network, spelled out; names are those of the tensors in the state dict."""
        tokens, dim = self.tokens, self.dim
        height, width = self.image[:2]
        return (
            Patches("patches", height, width, self.channels, self.patch),
            Linear("embedding", self.channels * self.patch**2, dim, tokens - 1),
            ClassToken("class_token", tokens, dim),
            Positions("positions", self.positions or self.grid, self.grid, dim),
            Dropout("position_dropout", tokens * dim, self.position_dropout, self.inplace, tokens),
            *(
                Block(
                    f"block{number}",
                    (
                        self._half("features", tokens, dim, p),
                        Transpose("to_tokens", tokens, dim),
                        self._half("tokens", dim, tokens, p),
                        Transpose("to_features", dim, tokens),
                    ),
                )
                for number, p in enumerate(self.dropout, start=1)
            ),
            Norm("norm", "layer", dim, tokens, STACK_NORM_EPSILON),
            FirstToken("first", tokens, dim),
            Linear("head", dim, self.head.width),
        )

    def _half(self, name: str, times: int, width: int, p: float) -> Block:
        """Half a block: x + FF(LN(x)) over the `width` numbers of each of `times` vectors."""
        hidden = self.ratio * width
        inner = (
            Norm("norm", "layer", width, times, STACK_NORM_EPSILON),
            Linear("linear1", width, hidden, times),
            Activation("activation", "gelu", times * hidden),
            Dropout("dropout1", times * hidden, p, self.inplace, times),
            Linear("linear2", hidden, width, times),
            Dropout("dropout2", times * width, p, self.inplace, times),
        )
        return Block(name, inner, residual=True)


# Patch, dim and depth of the sizes that were published, for ImageNet: 224 × 224 pixels, three channels, 1000 classes.
STACK_SIZES = {"tiny": (16, 192, 12), "base": (16, 768, 12), "large": (32, 1024, 24)}


def published_stack(size: str) -> FfStack:
    """The stack of one of STACK_SIZES, without dropout, as it was published."""
    patch, dim, depth = STACK_SIZES[size]
    return FfStack(
        image=(224, 224, 3),
        patch=patch,
        dim=dim,
        depth=depth,
        dropout=(0.0,) * depth,
        positions=(14, 14),  # of all sizes: the large one's 7 × 7 patches have theirs resampled
        head=ClassificationHead(classes=1000),
    )


Architecture: TypeAlias = Annotated[Mlp | FfStack, Field(discriminator="kind")]
