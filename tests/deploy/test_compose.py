"""docker-compose.yml: valid by the compose specification, hardened, and about things that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.serving import DRAIN_SECONDS
from service.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize(
    ("file", "schema"),
    [("docker-compose.yml", "vendor.compose-spec"), (".github/workflows/ci.yml", "vendor.github-workflows")],
)
def test_it_is_valid(file: str, schema: str) -> None:
    """By the JSON schema that its specification publishes."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, file]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(name: str) -> None:
    """Nothing is writable, privileged, unlimited, or published beyond this machine."""
    service = SERVICES[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys()
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("name", sorted(name for name, service in SERVICES.items() if "build" not in service))
def test_images_of_others_have_a_version(name: str) -> None:
    """The same file runs the same things tomorrow."""
    assert re.search(r":v?\d+\.\d+", SERVICES[name]["image"])


def test_only_the_service_runs_by_default() -> None:
    """Everything else is asked for by a profile."""
    assert {name: service.get("profiles", []) for name, service in SERVICES.items()} == {
        "penumbra": [],
        "jobs": ["jobs"],
        "prometheus": ["observe"],
        "grafana": ["observe"],
        "redis": ["cache"],
    }


def test_it_has_time_to_stop() -> None:
    """Longer than the service takes at most."""
    seconds = int(SERVICES["penumbra"]["stop_grace_period"].removesuffix("s"))
    delay: float = Settings.model_fields["stop_delay_seconds"].default
    assert seconds > DRAIN_SECONDS + delay + 5


def test_its_settings_exist() -> None:
    """Whatever is passed to the service, here or in the Dockerfile, is a setting."""
    variables = {f"PENUMBRA_{name.upper()}" for name in Settings.model_fields}
    for name in ("penumbra", "jobs"):
        assert SERVICES[name]["environment"].keys() <= variables
    assert set(re.findall(r"PENUMBRA_[A-Z_]+", DOCKERFILE)) <= variables


def test_its_health_check_is_the_images() -> None:
    """Said twice, meant once."""
    check = SERVICES["penumbra"]["healthcheck"]["test"]
    assert check[0] == "CMD"
    words = ", ".join(f'"{word}"' for word in check[1:])
    assert f"CMD [{words}]" in DOCKERFILE


def test_jobs_are_taken_and_done_in_one_place() -> None:
    """By one image, from the same volumes: the directory that the image has for its user, and models that are read."""
    service, worker = SERVICES["penumbra"], SERVICES["jobs"]
    directory = worker["environment"]["PENUMBRA_JOBS_DIR"]
    assert service["environment"]["PENUMBRA_JOBS_DIR"] == "${PENUMBRA_JOBS_DIR:-}"
    assert f"jobs:{directory}" in service["volumes"]
    assert worker["volumes"] == service["volumes"]
    assert (worker["image"], worker["build"]) == (service["image"], service["build"])
    assert worker["command"] == ["jobs"]
    assert worker["restart"] == "unless-stopped"
    assert "ports" not in worker
    made = re.search(r"install --directory --owner (\d+) --group (\d+) --mode 700 (\S+)", DOCKERFILE)
    user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    assert made is not None
    assert user is not None
    assert made.groups() == (*user.groups(), directory)


@pytest.mark.parametrize("name", SERVICES)
def test_mounted_files_exist(name: str) -> None:
    """A bind mount of nothing would make an empty directory."""
    for volume in SERVICES[name].get("volumes", []):
        source = volume.split(":")[0]
        assert source in COMPOSE["volumes"] or (ROOT / source).exists()


def test_whoever_asks_needs_a_key() -> None:
    """Hashes come from a secret file, which is neither in the image nor in git; Prometheus has a key of its own."""
    service, secrets = SERVICES["penumbra"], COMPOSE["secrets"]
    assert service["environment"]["PENUMBRA_KEYS_FILE"] == f"/run/secrets/{service['secrets'][0]}"
    assert "PENUMBRA_ALLOW_ANONYMOUS" not in service["environment"]
    assert "ANONYMOUS" not in DOCKERFILE
    (job,) = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{SERVICES['prometheus']['secrets'][0]}"
    kept = (ROOT / ".gitignore").read_text().split()
    for secret in secrets.values():
        assert secret["file"].partition(":-./")[2].removesuffix("}") in kept


def test_keys_are_made_as_compose_wants_them(tmp_path: Path) -> None:
    """What make runs leaves hashes in one file, and prints or keeps the keys."""
    recipe = subprocess.run(["make", "-n", "-B", "keys.jsonl"], cwd=ROOT, capture_output=True, text=True, check=True)
    added = [line for line in recipe.stdout.splitlines() if " keys add " in line]
    printed = [
        subprocess.run(
            [sys.executable, *line.split(">")[0].split()[1:-1], str(tmp_path / "keys.jsonl")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for line in added
    ]
    kept = (tmp_path / "keys.jsonl").read_text()
    assert '"scopes":["read"]' in kept
    assert '"scopes":["read","infer","admin"]' in kept
    assert all(key.startswith("pen_") and key not in kept for key in printed)
