"""The store: versions become visible whole or not at all, and nothing that was touched is handed out."""

from __future__ import annotations

import hashlib
import json
import pickle
import resource
import shutil
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.manifest import Manifest
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
from tests.models.examples import SMALL, module_of, sealed, specs, version_of

# Few letters, so that 1, 01 and 1.0 meet.
versions = st.text("01a.-", min_size=1, max_size=4).filter(lambda version: version[0].isalnum())


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    return Repository(tmp_path / "store")


@pytest.fixture
def folder(store):
    """The folder of net/1, published."""
    return store.publish(*version_of())


def rewrite(folder: Path, weights: bytes) -> None:
    """Replaces the weights, and makes the manifest agree with them."""
    (folder / WEIGHTS).write_bytes(weights)
    (folder / MANIFEST).write_text(sealed(weights=weights).model_dump_json())


def refusal(folder: Path) -> str:
    """Why net/1 is not handed out."""
    with pytest.raises(CorruptVersion) as caught:
        Repository(folder.parent.parent).load("net", "1")
    message = str(caught.value)
    assert message.startswith("net/1")
    return message


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


# Versions that were touched


@pytest.mark.parametrize("place", [0, 100, -1])
def test_changed_weights(folder, place):
    """One changed bit anywhere in the weights file is noticed."""
    weights = bytearray((folder / WEIGHTS).read_bytes())
    weights[place] ^= 1
    (folder / WEIGHTS).write_bytes(weights)
    assert "not the file that the manifest was made for" in refusal(folder)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("default_samples",), 101),
        (("inputs", 0, "mean"), 0.5),
        (("outputs", 0, "scale"), 2.0),
        (("architecture", "dropout", 0), 0.25),
        (("architecture", "activation"), "tanh"),
        (("noise_variance",), [1.0]),
        (("calibration",), {"temperature": 2.0}),
        (("digest",), "sha256:" + "0" * 64),
    ],
)
def test_changed_manifest(folder, path, value):
    """One changed value that affects answers is noticed."""
    content = json.loads((folder / MANIFEST).read_bytes())
    place = content
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    (folder / MANIFEST).write_text(json.dumps(content))
    assert "the digest is not that of the contents" in refusal(folder)


def test_notes_may_be_added(folder, store):
    """A description may be changed in place, for it affects no answer."""
    manifest = store.load("net").manifest.model_copy(update={"description": "better words"})
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    assert store.load("net").manifest == manifest


def test_missing_weights(folder):
    """A version without weights is corrupt."""
    (folder / WEIGHTS).unlink()
    assert "No such file" in refusal(folder)


def test_weights_that_are_a_folder(folder):
    """A folder in place of the weights is no reason to stumble."""
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    assert "directory" in refusal(folder)


def test_missing_manifest(folder, store):
    """A version without a manifest is none."""
    (folder / MANIFEST).unlink()
    with pytest.raises(NoSuchModel):
        store.load("net", "1")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b'{"name": "net"}'],
    ids=["empty", "brace", "null", "list", "object", "no UTF-8", "deep list", "deep object", "fields missing"],
)
def test_manifest_that_is_none(folder, content):
    """What is no manifest is refused without a stack trace."""
    (folder / MANIFEST).write_bytes(content)
    assert "manifest.json is not valid" in refusal(folder)


def test_truncated_manifest(folder):
    """A manifest cut anywhere is refused."""
    content = (folder / MANIFEST).read_bytes().rstrip()
    for length in range(0, len(content), 97):
        (folder / MANIFEST).write_bytes(content[:length])
        assert "manifest.json is not valid" in refusal(folder)


def test_manifest_with_an_unknown_field(folder):
    """A field that this version does not know is refused by its name."""
    content = json.loads((folder / MANIFEST).read_bytes()) | {"temperature": 2.0}
    (folder / MANIFEST).write_text(json.dumps(content))
    assert "temperature Extra inputs are not permitted" in refusal(folder)


@pytest.mark.parametrize("changes", [{"name": "other"}, {"version": "2"}])
def test_manifest_of_another(folder, changes):
    """A version copied into another's place is refused."""
    weights = (folder / WEIGHTS).read_bytes()
    (folder / MANIFEST).write_text(sealed(weights=weights, **changes).model_dump_json())
    other = sealed(**changes)
    assert f"the manifest is that of {other.name}/{other.version}" in refusal(folder)


# Weights that do not fit, with manifests that were made for them


def changed(**tensors):
    """The weights of net/1 with some tensors replaced, or left out where None."""
    state = dict(module_of(SMALL).state_dict()) | tensors
    return serialise({name: tensor for name, tensor in state.items() if tensor is not None})


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"head.bias": None}, "lacks head.bias"),
        ({"backdoor": torch.zeros(1)}, "has backdoor, which the architecture does not"),
        ({"head.bias": torch.zeros(2)}, "head.bias is torch.float32 [2], expected torch.float32 [1]"),
        ({"head.weight": torch.zeros(3, 1)}, "head.weight is torch.float32 [3, 1], expected torch.float32 [1, 3]"),
        ({"head.bias": torch.zeros(())}, "head.bias is torch.float32 [], expected torch.float32 [1]"),
        ({"head.bias": torch.zeros(1, dtype=torch.float64)}, "head.bias is torch.float64 [1]"),
        ({"head.bias": torch.zeros(1, dtype=torch.float16)}, "head.bias is torch.float16 [1]"),
        ({"head.bias": torch.zeros(1, dtype=torch.int64)}, "head.bias is torch.int64 [1]"),
        ({"head.bias": torch.tensor([float("nan")])}, "head.bias holds NaN or infinity"),
        ({"head.bias": torch.tensor([-float("inf")])}, "head.bias holds NaN or infinity"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tensors_that_do_not_fit(folder, tensors, message):
    """Weights are those of the architecture, name by name, in type and shape, and finite."""
    rewrite(folder, changed(**tensors))
    assert message in refusal(folder)


def header(length: int, text: bytes = b"", body: bytes = b"") -> bytes:
    """A safetensors file that says its header is so long."""
    return struct.pack("<Q", length) + text + body


@pytest.mark.parametrize("length", [1, 1000, 100_000_001, 2**31, 2**63, 2**64 - 1])
def test_header_longer_than_the_file(folder, length):
    """A header that says it is longer than the file is refused, whatever memory it asks for."""
    rewrite(folder, header(length))
    assert "weights.safetensors can't be read" in refusal(folder)


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3", "F8_E8M0", "F8_E5M2", "C64", "BOOL", "U64", "nonsense"])
def test_kinds_of_numbers(folder, dtype):
    """Kinds of numbers that the format has and a network or torch has not are refused."""
    bits = {"F4": 4, "F6_E2M3": 6, "F8_E8M0": 8, "F8_E5M2": 8, "C64": 64, "BOOL": 8, "U64": 64, "nonsense": 8}[dtype]
    text = json.dumps({"head.bias": {"dtype": dtype, "shape": [8], "data_offsets": [0, bits]}}).encode()
    rewrite(folder, header(len(text), text, bytes(bits)))
    refusal(folder)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1]},
        [],
    ],
    ids=str,
)
def test_headers_that_lie(folder, entry):
    """A header whose places, shapes and lengths do not fit together is refused."""
    text = json.dumps({"head.bias": entry}).encode()
    rewrite(folder, header(len(text), text, bytes(4)))
    refusal(folder)


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory):
    """A published net/1 that a property's examples overwrite one after the other."""
    return Repository(tmp_path_factory.mktemp("store")).publish(*version_of())


@given(st.binary(max_size=200))
def test_any_bytes(shared_folder, content):
    """Whatever bytes stand in place of the weights, they are refused and nothing else happens."""
    rewrite(shared_folder, content)
    assert "weights.safetensors can't be read" in refusal(shared_folder)


@given(st.data())
def test_damaged_header(shared_folder, data):
    """A weights file with any byte of its header replaced is loaded only if it still says the same."""
    weights = bytearray(changed())
    end = 8 + struct.unpack("<Q", weights[:8])[0]
    weights[data.draw(st.integers(0, end - 1))] = data.draw(st.integers(0, 255))
    rewrite(shared_folder, bytes(weights))
    try:
        model = Repository(shared_folder.parent.parent).load("net")
    except CorruptVersion:
        return
    state = module_of(SMALL).state_dict()
    assert all(torch.equal(model.tensors[name], state[name]) for name in state)


class Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [False, True], ids=["pickle", "torch.save"])
def test_pickles_are_not_executed(folder, tmp_path, zipped):
    """A pickle in place of the weights is refused and none of its code runs."""
    canary, file = tmp_path / "canary", tmp_path / "weights.pt"
    if zipped:
        torch.save({"head.bias": Canary(canary)}, file)
        torch.load(file, weights_only=False)
    else:
        file.write_bytes(pickle.dumps({"head.bias": Canary(canary)}))
        pickle.loads(file.read_bytes())
    assert canary.exists(), "the canary must sing when it is let out"
    canary.unlink()

    (folder / WEIGHTS).write_bytes(file.read_bytes())
    assert "not the file that the manifest was made for" in refusal(folder)
    rewrite(folder, file.read_bytes())
    assert "weights.safetensors can't be read" in refusal(folder)
    assert not canary.exists()


# Links


@pytest.mark.parametrize("linked", ["net", "net/1", f"net/1/{WEIGHTS}", f"net/1/{MANIFEST}"])
def test_links_out_of_the_store(folder, store, tmp_path, linked):
    """A link that leads out of the store is not followed, be it a model, a version or a file."""
    outside = tmp_path / "outside"
    (store.root / linked).rename(outside)
    (store.root / linked).symlink_to(outside)
    assert refusal(folder) == "net/1 leads out of the store"


def test_links_that_lead_nowhere(folder):
    """A link that leads to itself, or to nothing, is refused like a missing file."""
    for target in (WEIGHTS, "nowhere"):
        (folder / WEIGHTS).unlink()
        (folder / WEIGHTS).symlink_to(target)
        refusal(folder)


def test_links_inside_the_store(folder, store):
    """A link from one version to another is no second version: the manifest says whose it is."""
    (store.root / "net" / "2").symlink_to("1")
    with pytest.raises(CorruptVersion, match="net/2: the manifest is that of net/1"):
        store.load("net", "2")


def test_store_that_is_a_link(folder, store, tmp_path):
    """The store itself may be a link."""
    (tmp_path / "link").symlink_to(store.root)
    assert Repository(tmp_path / "link").load("net").manifest == store.load("net").manifest


def test_manifest_is_read_as_published(folder):
    """The manifest on disk is plain JSON whose weights hash is that of the file beside it."""
    manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    assert manifest.weights_sha256 == hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
