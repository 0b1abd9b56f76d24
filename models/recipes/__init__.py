"""The recipes that ship: one small file each, data and hyperparameters declared, nothing computed.

A new recipe is a new module here with a `RECIPE`.
"""

from __future__ import annotations

import importlib
import pkgutil

from models.training import Recipe


def recipes() -> dict[str, Recipe]:
    """All recipes by name."""
    found = (importlib.import_module(f"{__name__}.{module.name}").RECIPE for module in pkgutil.iter_modules(__path__))
    return {recipe.name: recipe for recipe in sorted(found, key=lambda recipe: recipe.name)}
