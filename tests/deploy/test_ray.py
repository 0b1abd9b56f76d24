"""The configuration for Ray Serve and the RayService: valid, the same, and about what the service has."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import pytest
import yaml

from service.serving import DRAIN_SECONDS
from service.settings import Settings
from tests.deploy import manifests
from tests.deploy.manifests import DEFINITIONS, RELEASES, ROOT
from tests.docs.test_project import PINS

FOLDER = ROOT / "deploy" / "ray"
CONFIGURATION: dict[str, Any] = yaml.safe_load((FOLDER / "serve.yaml").read_text())
(APPLICATION,) = CONFIGURATION["applications"]
SERVICE = yaml.safe_load((FOLDER / "rayservice.yaml").read_text())
CLUSTER = SERVICE["spec"]["rayClusterConfig"]
PODS = list(manifests.pod_templates(CLUSTER))

with_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: extra ray")


def test_it_is_the_same_in_both_places() -> None:
    """What a RayService deploys is what `serve deploy` does."""
    assert yaml.safe_load(SERVICE["spec"]["serveConfigV2"]) == CONFIGURATION


@with_ray
def test_ray_takes_it() -> None:
    """By Ray Serve's own schema."""
    schema = pytest.importorskip("ray.serve.schema").ServeDeploySchema
    taken = (
        schema.model_validate(CONFIGURATION) if hasattr(schema, "model_validate") else schema.parse_obj(CONFIGURATION)
    )
    assert [each.name for each in taken.applications] == ["penumbra"]


def test_what_it_names_is_there() -> None:
    """The builder of the application, its arguments, and both deployments."""
    module, _, name = APPLICATION["import_path"].partition(":")
    source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
    assert f"\ndef {name}(args: dict[str, Any])" in source
    assert all(f"    {argument}: " in source for argument in APPLICATION["args"])
    assert all(f'name="{each["name"]}"' in source for each in APPLICATION["deployments"])


def test_settings_exist() -> None:
    """Each variable is one, and nobody is let in without a key."""
    variables = APPLICATION["runtime_env"]["env_vars"]
    assert variables.keys() <= {f"PENUMBRA_{name.upper()}" for name in Settings.model_fields}
    assert "PENUMBRA_KEYS_FILE" in variables
    assert "PENUMBRA_ALLOW_ANONYMOUS" not in variables


@pytest.mark.parametrize("deployment", APPLICATION["deployments"], ids=lambda each: each["name"])
def test_replicas_scale_with_the_queue_and_have_time_to_stop(deployment: dict[str, Any]) -> None:
    """More are started long before a replica is given as much as it takes; one that goes answers what it admitted."""
    scaling = deployment["autoscaling_config"]
    assert scaling["target_ongoing_requests"] < deployment["max_ongoing_requests"]
    assert 1 <= scaling["min_replicas"] < scaling["max_replicas"]
    assert deployment["graceful_shutdown_timeout_s"] >= DRAIN_SECONDS
    assert all(pod["terminationGracePeriodSeconds"] >= deployment["graceful_shutdown_timeout_s"] for pod in PODS)


def test_versions_are_the_pinned_ones() -> None:
    """Of Ray, in the manifest and in the image."""
    assert CLUSTER["rayVersion"] == PINS["ray"]
    (found,) = re.findall(r"^FROM rayproject/ray:([0-9.]+)-", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    assert found == PINS["ray"]


def test_ray_itself_asks_for_a_token() -> None:
    """Its dashboard and its jobs run whatever they are given."""
    assert CLUSTER["authOptions"] == {"mode": "token"}


def test_pods_are_hardened_and_valid() -> None:
    """No root, no capability, limits, and keys from the secret; strictly, by Kubernetes' own schemas."""
    checker = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed: extra dev")
    assert len(PODS) == 2
    for pod in PODS:
        for release in RELEASES:
            checker.validate(
                {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod}, release, strict=True
            )
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
        (mount,) = container["volumeMounts"]
        assert APPLICATION["runtime_env"]["env_vars"]["PENUMBRA_KEYS_FILE"].startswith(f"{mount['mountPath']}/")


@pytest.mark.skipif(not DEFINITIONS, reason="CRDS names no directory with KubeRay's definitions")
def test_the_manifest_is_valid() -> None:
    """Strictly, by the definition that KubeRay publishes."""
    assert manifests.complaints(SERVICE, manifests.definition_of(SERVICE)) == []


def test_everything_that_its_image_copies_is_sent() -> None:
    """And is there."""
    copied = re.findall(r"^COPY --chown=ray (.*) \S+$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for source in " ".join(copied).split():
        assert (ROOT / source).exists()
        assert source in sent or str((ROOT / source).parent.relative_to(ROOT)) in sent
