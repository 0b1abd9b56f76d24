"""Architecture specs: frozen, validated values that say what a network is, with JSON both ways.

A spec holds no weights and builds nothing; `layers()` spells it out for those who do.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.layers import Activation, ActivationName, Block, Dropout, Layer, Linear, Norm, NormName

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


Architecture: TypeAlias = Mlp
