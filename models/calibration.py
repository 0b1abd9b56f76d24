"""What a version has learnt about its own errors, on rows that its weights were not fitted to.

Values and plain arithmetic: `evaluation` and `conformal` fit them, the service applies them. Knows nothing of networks.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

# Added to a standard deviation before an error is divided by it, in parts of the target's scale, so that a committee
# of one mind has an interval too.
EPSILON = 1e-6

Method = Literal["dropout", "ensemble"]
Level = Annotated[float, Field(gt=0, lt=1)]
Quantile = Annotated[float, Field(ge=0)] | None


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Conformal(_Part):
    """Quantiles of conformity scores of `rows` calibration rows, and the sampling that they hold for.

    Scores of a regression are |y − mean| / (std + ε), of a classification 1 − the probability of the true class.
    `quantiles` has a list for each output of a regression, and one for all classes: the
    ⌈(rows + 1) level⌉-th smallest score for each of the rising `levels`; None where there are too few rows for a level.
    They hold for committees of `samples` by `method`, with each dropout site's p as in `dropout`.
    """

    method: Method = "dropout"
    samples: Annotated[int, Field(ge=2)]
    dropout: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    rows: Annotated[int, Field(ge=1)]
    levels: Annotated[tuple[Level, ...], Field(min_length=1)]
    quantiles: Annotated[tuple[tuple[Quantile, ...], ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _parts_agree(self) -> Conformal:
        if list(self.levels) != sorted(set(self.levels)):
            raise ValueError("the levels must rise")
        for scores in self.quantiles:
            if len(scores) != len(self.levels):
                raise ValueError(f"{len(scores)} quantiles for {len(self.levels)} levels")
            known = [score for score in scores if score is not None]
            if known != sorted(known) or None in scores[: len(known)]:
                raise ValueError("quantiles must not fall with the level")
        return self

    def holds_for(self, method: str, samples: int, p: float | None) -> bool:
        """Whether it was made with such committees; p is what replaces every site's own, None leaves them."""
        return (method, samples) == (self.method, self.samples) and (p is None or {p} == set(self.dropout))

    def at(self, level: float) -> tuple[float | None, ...]:
        """The quantile of each list at a level: that of the next higher one that is kept; None where it is infinite."""
        place = bisect_left(self.levels, level)
        return tuple(None if place == len(scores) else scores[place] for scores in self.quantiles)


class Calibration(_Part):
    """A temperature T, and conformal quantiles; what is None was not fitted, and is left out of JSON.

    T is that of tempering, p(y)^(1/T): logits are divided by it (Guo et al. 2017), a variance head's variances are
    multiplied by it. There is one for a version, however it is asked: an ensemble's is that of all members together.
    Quantiles belong to a way of asking: `conformal` to method dropout, `conformal_ensemble` to method ensemble.
    """

    temperature: Annotated[float, Field(gt=0)] | None = None
    conformal: Conformal | None = None
    conformal_ensemble: Conformal | None = None

    @model_validator(mode="after")
    def _each_in_its_place(self) -> Calibration:
        for found, method in ((self.conformal, "dropout"), (self.conformal_ensemble, "ensemble")):
            if found is not None and found.method != method:
                raise ValueError(f"conformal quantiles of method {found.method} stand where those of {method} belong")
        return self

    @property
    def all_conformal(self) -> tuple[Conformal, ...]:
        """The conformal quantiles of every method that has some."""
        return tuple(found for found in (self.conformal, self.conformal_ensemble) if found is not None)

    def holding_for(self, method: str, samples: int, p: float | None) -> Conformal | None:
        """The quantiles that were made with such committees, see `Conformal.holds_for`."""
        return next((found for found in self.all_conformal if found.holds_for(method, samples, p)), None)

    @model_serializer(mode="wrap")
    def _what_was_fitted(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if value is not None}
