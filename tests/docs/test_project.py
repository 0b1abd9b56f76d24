"""The project as its users get it: exact versions, a wheel that is the client alone, words that hold."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import penumbra

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
)


def _name(requirement: str) -> str:
    return re.split(r"[\[=<> ;]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_every_dependency_has_an_exact_version() -> None:
    """What pyproject asks for by name, constraints.txt answers with one version."""
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = {_name(r) for r in (*PROJECT["project"]["dependencies"], *(r for extra in extras for r in extra))}
    pinned = {name.lower().replace("_", "-") for name in PINS}
    assert wanted <= pinned
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in PINS.values())


def test_the_wheel_is_the_client_alone(tmp_path: Path) -> None:
    """The wheel holds the package penumbra and nothing of the server, and asks for no torch."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        folders = {name.split("/")[0] for name in archive.namelist()}
        (metadata,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    assert folders == {"penumbra", f"penumbra-{penumbra.__version__}.dist-info"}
    required = {
        _name(line.removeprefix("Requires-Dist: "))
        for line in metadata.splitlines()
        if line.startswith("Requires-Dist") and "extra ==" not in line
    }
    assert required == {"httpx", "pydantic", "typing-extensions"}
    assert wheel.stat().st_size < 100_000


def test_every_make_target_says_what_it_does() -> None:
    """`make` alone lists each target with a sentence."""
    makefile = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    listed = subprocess.run(["make"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for target in phony.split():
        assert re.search(rf"make {target} +[A-Z]", listed), target


def test_every_setting_is_a_flag_a_variable_and_a_sentence() -> None:
    """Nothing that can be set is undocumented."""
    from service.settings import Settings

    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
