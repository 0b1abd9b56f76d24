"""Stores in an object store: published whole or not at all, mirrored whole, and what becomes of it when it is away."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import pytest
from obstore.store import ObjectStore

from models.mirror import Mirror, is_url, open_store
from models.repository import CorruptVersion, NoSuchModel, Repository, Unreachable
from tests.models.examples import version_of
from tests.models.test_command_line import Answer
from tests.models.test_training import CLASSIFICATION
from tests.objects import BUCKET, ObjectServer, told

_prefixes = itertools.count()
Open = Callable[..., Repository]


@pytest.fixture
def prefix() -> str:
    """A place of the test's own in the bucket."""
    return f"mirror/{next(_prefixes)}"


@pytest.fixture
def objects(s3: ObjectServer, prefix: str) -> ObjectStore:
    """What somebody else may do there."""
    return s3.client(prefix)


@pytest.fixture
def opened(s3: ObjectServer, prefix: str, tmp_path: Path) -> Iterator[Open]:
    """Opens the store there, each time with a cache of its own or a named one."""
    numbers = itertools.count()

    def open_(cache: str = "") -> Repository:
        return open_store(f"s3://{BUCKET}/{prefix}/", tmp_path / (cache or f"cache {next(numbers)}"))

    with told(s3.environment):
        yield open_


def listed(repository: Repository) -> dict[str, list[str]]:
    """Every model and its versions, after a look."""
    repository.refresh()
    return {name: list(kept.versions) for name, kept in repository.look().items()}


def test_what_one_publishes_another_loads(opened: Open, objects: ObjectStore) -> None:
    """To the byte, and verified; the object store has the same files as a directory would."""
    manifest, weights = version_of()
    there, here = opened(), opened()
    assert listed(here) == {}
    folder = there.publish(manifest, weights)
    assert (folder / "weights.safetensors").read_bytes() == weights
    assert listed(here) == {"net": ["1"]}
    assert here.load("net").manifest == manifest
    assert sorted(meta["path"] for page in obstore.list(objects) for meta in page) == [
        "net/1/manifest.json",
        "net/1/weights.safetensors",
    ]


def test_a_version_is_never_overwritten(opened: Open) -> None:
    """Whoever comes second is told, and nothing has changed."""
    opened().publish(*version_of())
    with pytest.raises(FileExistsError, match="versions are never overwritten"):
        opened().publish(*version_of(description="another"))
    assert opened("fresh").next_version("net") == "2"
    mirror = opened("fresh")
    assert listed(mirror) == {"net": ["1"]}
    assert mirror.load("net").manifest.description != "another"


def test_of_many_who_publish_at_once_one_wins(opened: Open) -> None:
    """All others are told so, and what is there is whole: no manifest is beside another's weights."""
    manifests = [version_of(description=f"{number}", seed=number) for number in range(8)]
    stores = [opened() for _ in manifests]

    def publish(number: int) -> bool:
        try:
            stores[number].publish(*manifests[number])
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(publish, range(8)))
    assert sum(won) == 1
    mirror = opened()
    mirror.refresh()
    assert mirror.load("net").manifest == manifests[won.index(True)][0]


def test_what_is_half_written_is_not_there(opened: Open, objects: ObjectStore) -> None:
    """Weights without a manifest are no version, and their number is not used again."""
    mirror = opened()
    mirror.publish(*version_of())
    obstore.put(objects, "net/2/weights.safetensors", b"half")
    assert listed(mirror) == {"net": ["1"]}
    assert mirror.next_version("net") == "3"
    with pytest.raises(FileExistsError, match="not even half-written ones"):
        mirror.publish(*version_of(version="2"))
    assert listed(mirror) == {"net": ["1"]}


def test_a_damaged_version_is_mirrored_and_refused_until_it_is_whole(opened: Open, objects: ObjectStore) -> None:
    """As in a directory; when its objects change it is pulled again, and its stamp is another."""
    manifest, weights = version_of()
    mirror = opened()
    mirror.publish(manifest, weights)
    obstore.put(objects, "net/1/weights.safetensors", weights[:-1] + b"!")
    mirror.refresh()
    damaged = mirror.look()["net"].versions["1"]
    with pytest.raises(CorruptVersion, match="not the file that the manifest was made for"):
        mirror.load("net")
    obstore.put(objects, "net/1/weights.safetensors", weights)
    mirror.refresh()
    assert mirror.look()["net"].versions["1"] != damaged
    assert mirror.load("net").manifest == manifest


def test_nothing_is_pulled_twice(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has been pulled stays in the cache, also for the next process, until it changes."""
    opened("shared").publish(*version_of())
    with monkeypatch.context() as offline:
        offline.setattr(obstore, "get", lambda *_: pytest.fail("pulled again"))
        assert listed(opened("shared")) == {"net": ["1"]}
    assert opened("shared").load("net").manifest.version == "1"


def test_what_left_the_object_store_leaves_the_mirror(opened: Open, objects: ObjectStore) -> None:
    """Its files go with the second look after that: with the first they may still be being read."""
    mirror = opened()
    for version in ("1", "2"):
        mirror.publish(*version_of(version=version, seed=int(version)))
    obstore.delete(objects, ["net/2/manifest.json", "net/2/weights.safetensors"])
    assert listed(mirror) == {"net": ["1"]}
    assert listed(mirror) == {"net": ["1"]}
    assert len(list((mirror.root / ".pulled").iterdir())) == 1


def test_other_objects_do_no_harm(opened: Open, objects: ObjectStore) -> None:
    """Names that are none, depths that mean nothing: ignored; nothing is written outside the mirror."""
    mirror = opened()
    mirror.publish(*version_of())
    for path in ("README", "net/README", "net/1/deep/er", "-x/1/manifest.json", "net/-1/manifest.json", "a b/1/c"):
        obstore.put(objects, path, b"{}")
    assert listed(mirror) == {"net": ["1"]}
    assert {path.name for path in mirror.root.iterdir()} == {".lock", ".pulled", "net"}
    assert {path.name for path in mirror.root.parent.iterdir()} == {mirror.root.name}


def test_a_pin_is_seen_by_all(opened: Open, objects: ObjectStore) -> None:
    """It is an object, in a line of text; to take it back is to delete that. Only what would be served is pinned."""
    there, here = opened(), opened()
    for version in ("1", "2"):
        there.publish(*version_of(version=version, seed=int(version)))
    there.pin("net", "1")
    assert bytes(obstore.get(objects, "net/pinned").bytes()) == b"1\n"
    here.refresh()
    assert here.look()["net"].pinned == "1"
    with pytest.raises(NoSuchModel):
        here.pin("net", "3")
    here.pin("net", None)
    there.refresh()
    assert there.look()["net"].pinned is None


def test_an_object_store_that_is_away_is_told_and_the_mirror_stays(
    own_s3: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call says so in a line; what was mirrored can be loaded; and when it is back, everything goes on."""
    with told(own_s3.environment):
        mirror = open_store(f"s3://{BUCKET}/away", tmp_path)
        mirror.publish(*version_of())
        own_s3.kill()
        for call in (
            mirror.refresh,
            lambda: mirror.publish(*version_of(version="2")),
            lambda: mirror.next_version("net"),
            lambda: mirror.pin("net", "1"),
        ):
            with pytest.raises(Unreachable, match=rf"^s3://{BUCKET}/away: [^\n]*error sending request[^\n]*$"):
                call()
        assert mirror.load("net").manifest.version == "1"
        own_s3.start()
        assert listed(mirror) == {"net": ["1"]}
        mirror.publish(*version_of(version="2"))
        assert listed(mirror) == {"net": ["1", "2"]}


@pytest.mark.parametrize(
    ("changed", "bucket", "message"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "canary-wrong"}, BUCKET, "403 Forbidden: "),
        ({"AWS_ACCESS_KEY_ID": "canary-wrong"}, BUCKET, "403 Forbidden: "),
        ({}, "nobucket", "404 Not Found: The specified bucket does not exist"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, BUCKET, "error sending request"),
    ],
)
def test_who_may_not_or_can_not_is_told_in_a_line(
    s3: ObjectServer, tmp_path: Path, changed: dict[str, str], bucket: str, message: str
) -> None:
    """On the command line: exit code 1, the store and the reason, and no credential."""
    with told({**s3.environment, **changed}):
        answer = Answer("list", "--store", f"s3://{bucket}/x", "--cache", tmp_path)
    assert (answer.code, answer.output) == (1, "")
    assert answer.errors.startswith(f"error: s3://{bucket}/x: ")
    assert message in answer.errors
    assert answer.errors.count("\n") == 1
    assert "canary" not in answer.errors


def test_the_command_line_trains_into_an_object_store(
    s3: ObjectServer, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And lists, describes and pins what is there, as in a directory."""
    monkeypatch.setattr("models.recipes.recipes", lambda: {"tiny": CLASSIFICATION})
    store = ("--store", f"s3://{BUCKET}/{prefix}", "--cache", tmp_path)
    with told(s3.environment):
        for _ in range(2):
            answer = Answer("train", "tiny", *store)
            assert answer.code == 0, answer.errors
        assert "not published, the same as version 1" in answer.words
        assert [line["version"] for line in json.loads(Answer("list", *store, "--json").output)] == ["1"]
        assert Answer("describe", "tiny", *store).code == 0
        assert Answer("pin", "tiny/1", *store).words == "tiny is pinned to version 1"
        assert Answer("unpin", "tiny", *store).words == "the newest version of tiny is served by default"


def test_a_cache_that_can_not_be_written_is_told(opened: Open, tmp_path: Path) -> None:
    """With its place."""
    (tmp_path / "file").write_text("")
    with pytest.raises(Unreachable, match=r"the mirror of s3://.* in .*file/.*: Not a directory"):
        opened("file").refresh()


@pytest.mark.parametrize(
    ("where", "url"), [("s3://b/p", True), ("gs://b", True), ("s3://", False), ("canary://b", False), ("a/b", False)]
)
def test_what_names_an_object_store(where: str, url: bool, tmp_path: Path) -> None:
    """A URL of a kind that is known, with something in it; everything else is a directory."""
    assert is_url(where) is url
    assert isinstance(open_store(where, tmp_path), Mirror) is url


def test_other_kinds_of_stores_are_mirrored_alike(tmp_path: Path) -> None:
    """A directory under a URL stands for those that can't be tried here."""
    (tmp_path / "objects").mkdir()
    mirror = open_store(f"file://{tmp_path / 'objects'}", tmp_path / "cache")
    mirror.publish(*version_of())
    assert listed(mirror) == {"net": ["1"]}
    with pytest.raises(FileExistsError):
        mirror.publish(*version_of())
