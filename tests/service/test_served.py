"""Versions made ready to answer: once for all processes, and never older than the store."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from models.repository import Repository
from service.served import Loader
from service.settings import SHIPPED_STORE


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A store of one's own with one model."""
    shutil.copytree(SHIPPED_STORE / "diabetes", tmp_path / "diabetes")
    return Repository(tmp_path)


def test_what_was_prepared_is_used(repository: Repository) -> None:
    """The network that was made before is the one that is served, and not made again."""
    loader = Loader(repository)
    loader.prepare()
    model = loader("diabetes", "1")
    assert model is not None
    assert loader("diabetes", "1") is model
    assert Loader(repository)("diabetes", "1") is not model


def test_what_changed_in_the_store_is_loaded_anew(repository: Repository) -> None:
    """A version that was taken away and published again with other contents is not answered from memory."""
    loader = Loader(repository)
    loader.prepare()
    manifest = repository.root / "diabetes" / "1" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"description": "', '"description": "canary '))
    model = loader("diabetes", "1")
    assert model is not None
    assert model.manifest.description.startswith("canary ")


def test_what_can_not_be_read_any_more_is_not_served(repository: Repository) -> None:
    """A manifest that is broken since makes a corrupt version, prepared or not."""
    loader = Loader(repository)
    loader.prepare()
    (repository.root / "diabetes" / "1" / "manifest.json").write_text("{")
    assert loader("diabetes", "1") is None


def test_what_fails_is_tried_again(repository: Repository) -> None:
    """A version that did not pass verification is served once its files are what they should be."""
    weights = repository.root / "diabetes" / "1" / "weights.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1])
    loader = Loader(repository)
    loader.prepare()
    assert loader("diabetes", "1") is None
    weights.write_bytes(good)
    assert loader("diabetes", "1") is not None
