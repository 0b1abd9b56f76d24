"""What to agree on: the edits of what is served that follow from the store, from an order, from watching.

Each is a function of what a store has and of what was agreed before. Knows nothing of how processes agree.
"""

from __future__ import annotations

from collections.abc import Mapping

from models.repository import Kept, Repository
from service.agreement import Asked, Edit, Listed, Models


def as_stored(repository: Repository) -> Edit:
    """Everything that a store has by then, and nothing else. Raises Unreachable."""

    def edit(generation: int, _: Models) -> Models:
        return {name: _listed(kept, generation) for name, kept in repository.look().items()}

    return edit


def load_anew(name: str, kept: Kept) -> Edit:
    """All versions of this model, whatever became of them before."""
    return lambda generation, models: _sorted({**models, name: _listed(kept, generation)})


def unload(name: str) -> Edit:
    """No version of this model."""
    return lambda _, models: {**models, name: Listed({})}


def bring(found: Mapping[str, Kept]) -> Edit:
    """What the store has, where nobody unloaded it; versions whose files are as they were have not been asked for anew.

    A model of which nothing is left in the store stays: more often than not, it is the store that is gone.
    """

    def edit(generation: int, models: Models) -> Models:
        changed = dict(models)
        for name, kept in found.items():
            before = models.get(name)
            if before is None or before.versions:
                known = before.versions if before else {}
                versions = {
                    version: known[version]
                    if version in known and known[version].stamp == stamp
                    else Asked(generation, stamp)
                    for version, stamp in kept.versions.items()
                }
                changed[name] = Listed(versions, kept.pinned)
        return _sorted(changed)

    return edit


def _listed(kept: Kept, generation: int) -> Listed:
    return Listed({version: Asked(generation, stamp) for version, stamp in kept.versions.items()}, kept.pinned)


def _sorted(models: Models) -> Models:
    return dict(sorted(models.items()))
