"""Fixtures of the tests of the models package."""

from __future__ import annotations

import pytest

from models.repository import Repository
from tests.models.examples import version_of


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    return Repository(tmp_path / "store")


@pytest.fixture
def folder(store):
    """The folder of net/1, published."""
    return store.publish(*version_of())
