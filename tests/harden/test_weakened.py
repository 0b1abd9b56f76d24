"""The list of weakenings is about the sources as they are: what is taken away is there, and so is what must notice."""

from __future__ import annotations

import pytest

from tests.harden.checks import CHECKS
from tests.harden.weakened import ROOT, WEAKENINGS, Weakening


@pytest.mark.parametrize("weakening", WEAKENINGS, ids=lambda weakening: f"{weakening.number}: {weakening.what}")
def test_what_is_taken_away_is_there(weakening: Weakening) -> None:
    """Whether its test then fails takes minutes for all of them: `make weaken`."""
    assert weakening.number in CHECKS
    for source, strong, weak in weakening.edits:
        assert strong != weak
        assert strong in (ROOT / source).read_text()
    file, _, name = weakening.test.partition("::")
    assert f"def {name}(" in (ROOT / file).read_text() or not name
    assert f"| {weakening.number} | {weakening.what} |" in (ROOT / "SECURITY.md").read_text()
