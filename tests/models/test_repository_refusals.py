"""The store hands out nothing that was touched: files changed, missing, cut, forged or linked elsewhere."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.calibration import Conformal
from models.manifest import Manifest
from models.repository import (
    MANIFEST,
    WEIGHTS,
    CorruptVersion,
    NoSuchModel,
    Repository,
    serialise,
)
from tests.models.examples import SMALL, module_of, sealed, version_of

QUANTILES = Conformal(samples=100, dropout=(0.5,), rows=9, levels=(0.9,), quantiles=((1.5,),))


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
        (("calibration",), {"conformal": QUANTILES.model_dump(mode="json")}),
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
