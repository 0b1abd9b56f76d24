"""The store: versions become visible whole or not at all, and nothing that was touched is handed out."""

from __future__ import annotations

import resource
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from models.repository import (
    MANIFEST,
    WEIGHTS,
    CorruptVersion,
    NoSuchModel,
    Repository,
    RepositoryError,
    serialise,
    version_order,
)
from tests.models.examples import module_of, sealed, specs, version_of

# Few letters, so that 1, 01 and 1.0 meet.
versions = st.text("01a.-", min_size=1, max_size=4).filter(lambda version: version[0].isalnum())


# Publishing and finding


@given(specs())
def test_round_trip(tmp_path_factory, spec):
    """What was published is loaded again: an equal manifest and the same tensors, to the last bit."""
    store = Repository(tmp_path_factory.mktemp("store"))
    manifest, weights = version_of(spec)
    assert store.publish(manifest, weights) == store.root / "net" / "1"
    model, state = store.load("net"), module_of(spec).state_dict()
    assert model.manifest == manifest
    assert model.tensors.keys() == state.keys()
    assert all(torch.equal(model.tensors[name], state[name]) for name in state)


def test_nothing_is_drawn(folder, store):
    """Loading takes no number from the global generator."""
    before = torch.get_rng_state()
    store.load("net")
    assert torch.equal(torch.get_rng_state(), before)


def test_tensors_can_not_be_replaced(folder, store):
    """A loaded model's tensors are a read-only mapping."""
    with pytest.raises(TypeError):
        store.load("net").tensors["head.bias"] = torch.zeros(1)


def test_files(folder):
    """A version is two files, readable by all, and the manifest ends like a text file."""
    assert sorted(file.name for file in folder.iterdir()) == [MANIFEST, WEIGHTS]
    assert folder.stat().st_mode & 0o777 == 0o755
    assert (folder / MANIFEST).read_text().endswith("}\n")


def test_names_and_versions(store):
    """All models are listed by name and all versions from old to new: 2 before 10, and 1.9 before 1.10."""
    for version in ("10", "2", "1.10", "1", "1.9"):
        store.publish(*version_of(version=version))
    store.publish(*version_of(name="a"))
    assert store.names() == ("a", "net")
    assert store.versions("net") == ("1", "1.9", "1.10", "2", "10")


def test_newest_is_the_default(store):
    """Without a version the newest is loaded, and with one that one."""
    for version in ("10", "9"):
        store.publish(*version_of(version=version))
    assert store.load("net").manifest.version == "10"
    assert store.load("net", "9").manifest.version == "9"


@given(st.lists(st.integers(0, 10**40)))
def test_numbers_are_ordered_by_size(numbers):
    """Versions that are numbers are ordered as numbers."""
    assert sorted(map(str, numbers), key=version_order) == [str(number) for number in sorted(numbers)]


@given(versions, versions)
@example("1", "01")
@example("1.0", "1.00")
def test_order_is_total(one, other):
    """Two versions have the same place only where they are the same: "newest" never depends on the file system."""
    assert (version_order(one) < version_order(other)) + (version_order(one) > version_order(other)) == (one != other)


def test_next_version(store):
    """The next version is one above the highest number, and other versions do not count."""
    assert store.next_version("net") == "1"
    for version in ("9", "10", "beta", "99-rc", "11.5"):
        store.publish(*version_of(version=version))
    assert store.next_version("net") == "11"
    assert store.next_version("other") == "1"


def test_strangers_are_not_listed(folder, store):
    """Files, hidden folders, folders without a manifest and unfinished publications are not models."""
    (store.root / "README.md").write_text("hello")
    (store.root / "empty").mkdir()
    (store.root / "unversioned").mkdir()
    (store.root / "unversioned" / MANIFEST).write_text("{}")
    (store.root / "net" / "notes.txt").write_text("hello")
    (store.root / "net" / "2").mkdir()
    shutil.copytree(store.root / "net", store.root / ".publishing-abc")
    assert store.names() == ("net",)
    assert store.versions("net") == ("1",)
    assert store.versions(".publishing-abc") == ()


def test_no_store(tmp_path):
    """A store that does not exist, or is a file, is empty."""
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "nowhere", tmp_path / "file"):
        assert Repository(root).names() == ()
        with pytest.raises(NoSuchModel, match="there are: none"):
            Repository(root).load("net")


def test_unknown_names_say_what_there_is(folder, store):
    """Who asks for a name or version that is not there is told which are."""
    store.publish(*version_of(name="other"))
    with pytest.raises(NoSuchModel, match=r"no model 'nett' .*; there are: net, other"):
        store.load("nett")
    with pytest.raises(NoSuchModel, match="no version '7' of 'net'; there are: 1"):
        store.load("net", "7")


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../store/net", "net/", "net/1", "./net", "net\n", "net\0", "\0", ".net", "-net", "né", "x" * 65],
)
def test_names_that_are_paths(folder, store, name):
    """A name or version that is no name finds nothing, wherever it would lead as a path."""
    assert store.versions(name) == ()
    with pytest.raises(NoSuchModel):
        store.load(name)
    with pytest.raises(NoSuchModel):
        store.load("net", name)


@pytest.mark.parametrize("name", ["net\n", ".net", "-net", "né", "n t"])
def test_folders_that_are_no_names(folder, store, name):
    """A folder whose name is no name is not a model or a version, though all the files are there."""
    shutil.copytree(folder.parent, store.root / name)
    shutil.copytree(folder, folder.parent / name)
    assert store.names() == ("net",)
    assert store.versions(name) == ()
    assert store.versions("net") == ("1",)


def test_absolute_name(folder, store):
    """A name that is an absolute path finds nothing, though there is a model."""
    with pytest.raises(NoSuchModel):
        store.load(str(folder.parent))


def test_errors_have_one_root():
    """Who handles RepositoryError handles both kinds."""
    assert issubclass(NoSuchModel, RepositoryError)
    assert issubclass(CorruptVersion, RepositoryError)


@given(st.permutations(["b", "a", "c"]))
def test_equal_tensors_give_equal_bytes(order):
    """The weights file does not depend on the order of the tensors, nor on how they lie in memory."""
    tensors = {name: torch.full((2, 3), float(ord(name))) for name in order}
    tensors["a"] = torch.full((3, 2), float(ord("a"))).T
    straight = {name: torch.full((2, 3), float(ord(name))) for name in "abc"}
    assert serialise(tensors) == serialise(straight)


# Publications that fail


@pytest.mark.parametrize("weights", [b"", b"not safetensors", serialise({"head.bias": torch.zeros(1)})])
def test_weights_that_do_not_fit(store, weights):
    """A publication whose weights do not fit leaves nothing behind, not even an empty folder."""
    with pytest.raises(CorruptVersion):
        store.publish(sealed(weights=weights), weights)
    assert list(store.root.iterdir()) == []


def test_weights_of_another_manifest(store):
    """A manifest can't be published with weights that it was not made for."""
    manifest, _ = version_of(seed=0)
    with pytest.raises(CorruptVersion, match="not the file that the manifest was made for"):
        store.publish(manifest, version_of(seed=1)[1])
    assert list(store.root.iterdir()) == []


def test_manifest_without_its_digest(store):
    """A manifest whose digest was not computed from it can't be published."""
    manifest, weights = version_of()
    with pytest.raises(CorruptVersion, match="digest"):
        store.publish(manifest.model_copy(update={"default_samples": 7}), weights)
    assert list(store.root.iterdir()) == []


@pytest.mark.parametrize("limit", [10, 1500], ids=["in the weights", "in the manifest"])
def test_disk_that_fills_up(store, limit):
    """A publication that can't write to its end leaves nothing behind, and the version can be published later."""
    manifest, weights = version_of(description="x" * 2000)
    assert len(weights) < 1500
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            store.publish(manifest, weights)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(store.root.iterdir()) == []
    store.publish(manifest, weights)
    assert store.load("net").manifest == manifest


def test_versions_are_never_overwritten(folder, store):
    """A version that exists is not published again, not even with the same contents; its files stay as they are."""
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    for seed in (0, 1):
        with pytest.raises(FileExistsError, match="never overwritten"):
            store.publish(*version_of(seed=seed))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [entry.name for entry in store.root.iterdir()] == ["net"]


def test_two_publications_at_once(store):
    """Of many publications of one version at the same time one wins, and the others are told that it exists."""
    together = threading.Barrier(6)

    def publish(seed):
        version = version_of(seed=seed)
        together.wait()
        try:
            store.publish(*version)
        except FileExistsError:
            return None
        return version[0].digest

    for round_ in range(5):
        store = Repository(store.root / str(round_))
        with ThreadPoolExecutor(6) as pool:
            won = [digest for digest in pool.map(publish, range(6)) if digest]
        assert won == [store.load("net").manifest.digest]
        assert [entry.name for entry in store.root.iterdir()] == ["net"]


def test_publication_in_between(store, monkeypatch):
    """A publication that another one overtakes at the last moment is told that the version exists, and cleans up."""
    rename, rival = Path.rename, version_of(seed=1)

    def overtaken(self, target):
        monkeypatch.undo()
        store.publish(*rival)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", overtaken)
    with pytest.raises(FileExistsError, match="never overwritten"):
        store.publish(*version_of(seed=0))
    assert store.load("net").manifest == rival[0]
    assert [entry.name for entry in store.root.iterdir()] == ["net"]
