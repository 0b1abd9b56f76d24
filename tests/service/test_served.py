"""Versions made ready to answer: once for all processes, and never older than the store."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from models.repository import CorruptVersion, Repository
from service.served import Loader
from service.settings import SHIPPED_STORE
from tests.api.stores import corrupt, publish


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
    assert loader("diabetes", "1") is model
    assert Loader(repository)("diabetes", "1") is not model


def test_what_changed_in_the_store_is_loaded_anew(repository: Repository) -> None:
    """A version that was taken away and published again with other contents is not answered from memory."""
    loader = Loader(repository)
    loader.prepare()
    manifest = repository.root / "diabetes" / "1" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"description": "', '"description": "canary '))
    model = loader("diabetes", "1")
    assert model.manifest.description.startswith("canary ")


def test_what_can_not_be_read_any_more_is_not_served(repository: Repository) -> None:
    """A manifest that is broken since makes a corrupt version, prepared or not."""
    loader = Loader(repository)
    loader.prepare()
    (repository.root / "diabetes" / "1" / "manifest.json").write_text("{")
    with pytest.raises(CorruptVersion):
        loader("diabetes", "1")


def test_what_fails_is_tried_again(repository: Repository) -> None:
    """A version that did not pass verification is served once its files are what they should be."""
    weights = repository.root / "diabetes" / "1" / "weights.safetensors"
    good = weights.read_bytes()
    weights.write_bytes(good[:-1])
    loader = Loader(repository)
    loader.prepare()
    with pytest.raises(CorruptVersion):
        loader("diabetes", "1")
    weights.write_bytes(good)
    assert loader("diabetes", "1").manifest.version == "1"


def test_what_was_prepared_outlives_the_store(repository: Repository) -> None:
    """A store that is gone, for a moment or for good, takes nothing from the workers that are forked later."""
    loader = Loader(repository)
    loader.prepare()
    shutil.rmtree(repository.root / "diabetes")
    assert loader("diabetes", "1").manifest.version == "1"


def test_no_more_is_prepared_than_is_served(tmp_path: Path) -> None:
    """The newest versions that pass, as many as are kept, and the one that is pinned."""
    for version in "12345":
        publish(tmp_path, "model", version)
    corrupt(tmp_path / "model" / "5")
    repository = Repository(tmp_path)
    repository.pin("model", "1")
    loader = Loader(repository)
    loader.prepare(keep=2)
    assert {version for _, version in loader._made} == {"1", "3", "4"}


def test_a_version_is_warm_before_it_is_served(repository: Repository) -> None:
    """What a first request needs has been made, so that it does not wait for it."""
    model = Loader(repository)("diabetes", "1")
    assert {"fingerprint", "full", "standard", "_targets"} <= vars(model).keys()
