"""The same ten digits by five networks, each trained by itself: see `digits`, whose network is the first of them."""

from __future__ import annotations

from dataclasses import replace

from models.recipes import digits

RECIPE = replace(
    digits.RECIPE,
    name="digits-ensemble",
    description=digits.RECIPE.description + " Five networks, trained independently.",
    members=5,
)
