"""Keys: made once, kept as hashes, listed without them, changed in place, read again while the service runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access import command
from service.access.callers import Scope
from service.access.keyring import Keyring
from service.access.keys import WrongKeys, parse
from tests.access.keys import add


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where keys are kept; nothing is there yet."""
    return tmp_path / "keys.jsonl"


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says when it refuses: one line."""
    assert command.main(list(arguments)) != 0
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("python -m service keys: error: ")
    return line


def test_only_its_hash_is_kept(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    """The key is printed once, and no part of it stands in the file; its SHA-256 does."""
    secret = add(capsys, file, "alice")
    kept = json.loads(file.read_text())
    assert kept == {
        "name": "alice",
        "sha256": hashlib.sha256(secret.encode()).hexdigest(),
        "scopes": ["read", "infer"],
    }
    assert len(secret) >= 43
    assert secret[4:] not in file.read_text()


def test_a_list_shows_what_is_known_and_no_hash(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    """A line for each key; of the hash only so much that it can be recognised."""
    add(capsys, file, "alice", "--rate", "10/second")
    add(capsys, file, "boss", "--scopes", "admin", "--models", "digits,diabetes")
    command.main(["list", "--file", str(file)])
    _, alice, boss = (line.split() for line in capsys.readouterr().out.splitlines())
    assert alice[:4] == ["alice", "read,infer", "all", "10/second"]
    assert boss[:4] == ["boss", "admin", "digits,diabetes", "any"]
    hashes = [json.loads(line)["sha256"] for line in file.read_text().splitlines()]
    assert [alice[4], boss[4]] == [one[:12] + "…" for one in hashes]


def test_removing_leaves_the_others_and_comments_alone(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    """What stands around the line stays; the file is the same file, as one that is mounted has to be."""
    file.write_text("# ours\n")
    kept, gone = add(capsys, file, "kept"), add(capsys, file, "gone")
    before, found = file.stat().st_ino, Keyring("", file)
    assert command.main(["remove", "gone", "--file", str(file)]) == 0
    assert file.stat().st_ino == before
    assert file.read_text().startswith("# ours\n{")
    found.refresh()
    assert found.find(kept.encode()).name == "kept"  # type: ignore[union-attr]
    assert found.find(gone.encode()) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "alice"], "there is a key of that name already"),
        (["add", "../alice"], "name: a name has letters, digits, dots, dashes and underscores, begins with"),
        (["add", "bob", "--scopes", "infer,all"], "--scopes must be some of read,infer,admin"),
        (["add", "bob", "--scopes", ""], "--scopes must be some of read,infer,admin"),
        (["add", "bob", "--rate", "often"], "rate: must be like 10/second or 500/minute"),
        (["add", "bob", "--models", "a/b"], "models: a name has letters, digits, dots"),
        (["remove", "bob"], "there is no key of that name"),
    ],
)
def test_mistakes_are_told_and_change_nothing(
    capsys: pytest.CaptureFixture[str], file: Path, arguments: list[str], said: str
) -> None:
    """One line says what is wrong; the file stays as it is."""
    add(capsys, file, "alice")
    before = file.read_bytes()
    assert said in complaint(capsys, *arguments, "--file", str(file))
    assert file.read_bytes() == before


def test_it_asks_for_a_file(capsys: pytest.CaptureFixture[str], file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By flag or by the variable that the service reads; one that is not there has nothing to list."""
    monkeypatch.delenv("PENUMBRA_KEYS_FILE", raising=False)
    assert "which file?" in complaint(capsys, "list")
    assert "No such file" in complaint(capsys, "list", "--file", str(file))
    monkeypatch.setenv("PENUMBRA_KEYS_FILE", str(file))
    assert command.main(["add", "alice"]) == 0
    assert file.exists()


GOOD = {"name": "a", "sha256": "0" * 64, "scopes": ["read"]}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("canary", "line 2: is not JSON"),
        ("[" * 5000, "line 2: is not JSON"),
        ('{"name": ' + "1" * 5000 + "}", "line 2: is not JSON"),
        ("[]", "line 2: the line: Input should be a valid dictionary or instance of Key"),
        (json.dumps({**GOOD, "sha256": "canary"}), "line 2: sha256: String should match pattern"),
        (json.dumps({**GOOD, "scopes": []}), "line 2: scopes: Tuple should have at least 1 item"),
        (json.dumps({**GOOD, "scopes": ["root"]}), "line 2: scopes.0: Input should be 'read', 'infer' or 'admin'"),
        (json.dumps({**GOOD, "rate": "canary"}), "line 2: rate: must be like 10/second"),
        (json.dumps({**GOOD, "scope": "read"}), "line 2: scope: Extra inputs are not permitted"),
        (json.dumps(GOOD), "line 2: there is another key of that name"),
    ],
)
def test_a_line_that_is_wrong_is_told_by_its_number(line: str, said: str) -> None:
    """Nothing of what stands there is quoted."""
    with pytest.raises(WrongKeys) as raised:
        parse(f"{json.dumps(GOOD)}\n{line}\n", "somewhere")
    assert str(raised.value).startswith(f"somewhere, {said}")
    assert "canary" not in str(raised.value)


@given(st.binary(max_size=200))
def test_nobody_is_found_who_has_no_key(secret: bytes) -> None:
    """Whatever is sent, what is kept is no key: not even the hash that lets a key in is one."""
    kept = hashlib.sha256(b"the key").hexdigest()
    ring = Keyring(json.dumps({**GOOD, "sha256": kept}))
    assert ring.find(b"the key") is not None
    assert (ring.find(secret) is None) or secret == b"the key"
    assert ring.find(kept.encode()) is None
    assert ring.find(bytes.fromhex(kept)) is None


def test_a_file_that_went_wrong_changes_nothing(
    capsys: pytest.CaptureFixture[str], file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Keys go on to count while the file is broken or gone, which is told once; what comes next counts again."""
    caplog.set_level("INFO")
    secret = add(capsys, file, "alice").encode()
    ring, good = Keyring("", file), file.read_text()
    for broken in (good[: len(good) // 2], None, "\xff" * 3):
        if broken is None:
            file.unlink()
        else:
            file.write_bytes(broken.encode("latin-1"))
        caplog.clear()
        ring.refresh()
        ring.refresh()
        assert ring.find(secret) is not None
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert secret.decode() not in caplog.text
    file.write_text("")
    ring.refresh()
    assert ring.find(secret) is None
    file.write_text(good)
    ring.refresh()
    assert ring.find(secret) is not None


def test_keys_of_the_environment_count_with_those_of_the_file(
    capsys: pytest.CaptureFixture[str], file: Path, tmp_path: Path
) -> None:
    """Both are looked up."""
    inside, outside = add(capsys, file, "inside"), add(capsys, tmp_path / "other", "outside", "--scopes", "admin")
    ring = Keyring((tmp_path / "other").read_text(), file)
    assert ring.find(inside.encode()).scopes == {Scope.READ, Scope.INFER}  # type: ignore[union-attr]
    assert ring.find(outside.encode()).scopes == {Scope.ADMIN}  # type: ignore[union-attr]
