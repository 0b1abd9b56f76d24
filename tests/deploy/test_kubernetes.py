"""The manifests: valid by their schemas, hardened, and about probes, settings, metrics and users that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.api.guard import HEALTH, scope_of
from service.app import create_app
from service.serving import DRAIN_SECONDS
from service.settings import Settings
from service.telemetry.catalogue import FAMILIES
from tests.deploy import manifests
from tests.deploy.manifests import DEFINITIONS, RELEASES, ROOT, Resource

FOLDER = ROOT / "deploy" / "kubernetes"
FILES = list(manifests.files("kubernetes"))
DEPLOYMENT = manifests.of_kind("Deployment", "kubernetes/base")
RUNTIME = manifests.of_kind("ServingRuntime", "kubernetes/kserve")
# Pods that run the service's image as it is: the specification, and how long they have to end.
PODS: dict[str, tuple[Resource, int]] = {
    "Deployment": (
        DEPLOYMENT["spec"]["template"]["spec"],
        DEPLOYMENT["spec"]["template"]["spec"]["terminationGracePeriodSeconds"],
    ),
    "ServingRuntime": (
        RUNTIME["spec"],
        manifests.of_kind("InferenceService", "kubernetes/kserve")["spec"]["predictor"][
            "terminationGracePeriodSeconds"
        ],
    ),
}
JOBS = FOLDER / "components" / "jobs"
(WORKER,) = (each for path, each in FILES if path.parent == JOBS and each["kind"] == "Deployment")
OF_OTHERS = [(path, each) for path, each in FILES if manifests.is_of_others(each)]
ON_THEIR_OWN = [(path, each) for path, each in FILES if not manifests.is_of_others(each)]

with_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl here")
with_definitions = pytest.mark.skipif(
    not DEFINITIONS, reason="CRDS names no directory with the definitions of KServe, KEDA and the Prometheus operator"
)


def named(found: list[tuple[Path, Resource]]) -> list[str]:
    """Names for tests."""
    return [f"{path.parent.name}/{path.stem}" for path, _ in found]


def assert_valid(resource: Resource) -> None:
    """By Kubernetes' own schemas, strictly, for the oldest release that is meant and for the newest."""
    checker = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed: extra dev")
    for release in RELEASES:
        checker.validate(resource, release, strict=True)


@pytest.mark.parametrize(("path", "resource"), ON_THEIR_OWN, ids=named(ON_THEIR_OWN))
def test_it_is_valid(path: Path, resource: Resource) -> None:
    """Every file as it stands."""
    assert_valid(resource)


def test_mistakes_would_be_found() -> None:
    """The schemas are strict: a field that nobody knows is told, with its place."""
    checker = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed: extra dev")
    wrong = yaml.safe_load(yaml.safe_dump(DEPLOYMENT))
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(checker.ValidationError, match="readynessProbe"):
        checker.validate(wrong, RELEASES[-1], strict=True)


@pytest.mark.parametrize("name", PODS)
def test_pods_of_others_are_valid_pods(name: str) -> None:
    """Also where another project's resource has them in its midst: what is no part of a pod's specification aside."""
    spec = {key: value for key, value in PODS[name][0].items() if key not in ("annotations", "supportedModelFormats")}
    spec.pop("protocolVersions", None)
    assert_valid({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec})


@with_definitions
@pytest.mark.parametrize(("path", "resource"), OF_OTHERS, ids=named(OF_OTHERS))
def test_resources_of_others_are_valid(path: Path, resource: Resource) -> None:
    """By the definitions that their projects publish, strictly."""
    assert manifests.complaints(resource, manifests.definition_of(resource)) == []


@with_kubectl
@pytest.mark.parametrize("overlay", ["base", "full", "jobs", "kserve"])
def test_what_is_applied_is_valid(overlay: str) -> None:
    """All that kustomize makes of it, patches included; the image is named where a registry's can be put in."""
    built = subprocess.run(["kubectl", "kustomize", FOLDER / overlay], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert not built.stderr
    made = manifests.resources(built.stdout)
    for resource in made:
        if not manifests.is_of_others(resource):
            assert_valid(resource)
        elif DEFINITIONS:
            assert manifests.complaints(resource, manifests.definition_of(resource)) == []
    images = {
        container["image"] for each in made for pod in manifests.pod_templates(each) for container in pod["containers"]
    }
    assert images == {"penumbra:latest"}
    if overlay != "kserve":
        assert {each["metadata"].get("namespace", "penumbra") for each in made} == {"penumbra"}


@with_kubectl
def test_only_the_autoscaler_says_how_many() -> None:
    """Where there is one: applying the manifests again doesn't undo what it did."""
    made = manifests.resources(
        subprocess.run(["kubectl", "kustomize", FOLDER / "full"], capture_output=True, text=True, check=True).stdout
    )
    (deployment,) = (each for each in made if each["kind"] == "Deployment")
    assert "replicas" not in deployment["spec"]
    scaled = next(each["spec"] for each in made if each["kind"] == "ScaledObject")
    assert scaled["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert scaled["minReplicaCount"] == DEPLOYMENT["spec"]["replicas"]


@pytest.mark.parametrize("name", [*PODS, "jobs"])
def test_pods_are_hardened(name: str) -> None:
    """No root, nothing to write but /tmp, no capability, no limit missing: the level "restricted", and more."""
    spec = WORKER["spec"]["template"]["spec"] if name == "jobs" else PODS[name][0]
    (container,) = spec["containers"]
    may = {**spec.get("securityContext", {}), **container["securityContext"]}
    assert may["runAsNonRoot"]
    assert may["readOnlyRootFilesystem"]
    assert not may["allowPrivilegeEscalation"]
    assert may["capabilities"] == {"drop": ["ALL"]}
    assert may["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert user is not None
    assert (may["runAsUser"], may["runAsGroup"]) == (int(user[1]), int(user[2]))


@pytest.mark.parametrize("name", PODS)
def test_pods_have_time_to_stop(name: str) -> None:
    """The wait before SIGTERM, the delay after it, what the service takes at most, and its margin."""
    spec, grace = PODS[name]
    waits = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    delay: float = Settings.model_fields["stop_delay_seconds"].default
    assert waits >= 1
    assert grace >= waits + delay + DRAIN_SECONDS + 5


@pytest.mark.parametrize("name", PODS)
def test_settings_exist(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each variable is a setting, with a value that it takes; nobody is let in without a key."""
    env = {each["name"]: each["value"] for each in PODS[name][0]["containers"][0]["env"]}
    assert env.keys() <= {f"PENUMBRA_{field.upper()}" for field in Settings.model_fields}
    assert "PENUMBRA_ALLOW_ANONYMOUS" not in env
    for variable, value in env.items():
        monkeypatch.setenv(variable, str(tmp_path) if variable == "PENUMBRA_STORE" else value)
    settings = Settings()
    limit = PODS[name][0]["containers"][0]["resources"]["limits"]["cpu"]
    assert settings.worker_processes == int(limit)


@pytest.mark.parametrize("name", PODS)
def test_probes_ask_what_is_there(name: str) -> None:
    """A path that needs no key, at the port on which the service listens."""
    (container,) = PODS[name][0]["containers"]
    env = {each["name"]: each["value"] for each in container["env"]}
    (port,) = container["ports"]
    listened = int(env.get("PENUMBRA_PORT", re.search(r"PENUMBRA_PORT=(\d+)", (ROOT / "Dockerfile").read_text())[1]))  # type: ignore[index]
    assert port["containerPort"] == listened
    paths = create_app(Settings()).openapi()["paths"]
    for probe in (container[kind]["httpGet"] for kind in container if kind.endswith("Probe")):
        assert probe["port"] in (port["name"], listened)
        assert "get" in paths[probe["path"]]
        assert probe["path"] in HEALTH
        assert scope_of("GET", probe["path"]) is None


@pytest.mark.parametrize("name", PODS)
def test_files_of_settings_are_mounted(name: str) -> None:
    """Keys are where the setting says, from a secret."""
    spec, _ = PODS[name]
    (container,) = spec["containers"]
    env = {each["name"]: each["value"] for each in container["env"]}
    mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    volumes: dict[str, Any] = {each["name"]: each for each in spec["volumes"]}
    assert set(mounts.values()) == set(volumes)
    assert "secret" in volumes[mounts[str(Path(env["PENUMBRA_KEYS_FILE"]).parent)]]
    assert "emptyDir" in volumes[mounts["/tmp"]]


def test_it_is_asked_and_drained_together() -> None:
    """Service, budget, policies and monitors all select the pods of the Deployment."""
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"].items()
    selected = 0
    for path, each in FILES:
        if path.parent == JOBS:
            continue
        spec = each.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector")
        if selector and each["kind"] != "PodMonitor":
            selected += 1
            assert selector.get("matchLabels", selector).items() <= labels
    assert selected >= 6


@with_kubectl
def test_jobs_are_taken_and_done_in_one_place() -> None:
    """In one directory, by one database and one image; by one worker at a time, whom nobody asks."""
    built = subprocess.run(["kubectl", "kustomize", FOLDER / "jobs"], capture_output=True, text=True, check=True)
    made = {(each["kind"], each["metadata"]["name"]): each for each in manifests.resources(built.stdout)}
    settings = {f"PENUMBRA_{field.upper()}" for field in Settings.model_fields}
    shared = []
    for name in ("penumbra", "penumbra-jobs"):
        spec = made["Deployment", name]["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        env = {each["name"]: each.get("value") or each["valueFrom"] for each in container["env"]}
        assert env.keys() <= settings
        mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
        volumes = {each["name"]: each for each in spec["volumes"]}
        claim = volumes[mounts[env["PENUMBRA_JOBS_DIR"]]]["persistentVolumeClaim"]["claimName"]
        assert made["PersistentVolumeClaim", claim]["spec"]["accessModes"] == ["ReadWriteMany"]
        shared.append((container["image"], env["PENUMBRA_JOBS_DIR"], env["PENUMBRA_JOBS_DATABASE"], claim))
    assert shared[0] == shared[1]
    worker = made["Deployment", "penumbra-jobs"]["spec"]
    assert (worker["replicas"], worker["strategy"]) == (1, {"type": "Recreate"})
    assert worker["template"]["spec"]["containers"][0]["args"] == ["jobs"]
    labels = worker["template"]["metadata"]["labels"]
    assert worker["selector"]["matchLabels"].items() <= labels.items()
    assert made["NetworkPolicy", "penumbra-jobs"]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert made["NetworkPolicy", "penumbra-jobs"]["spec"]["ingress"] == []
    (expression,) = made["NetworkPolicy", "penumbra-jobs-database"]["spec"]["podSelector"]["matchExpressions"]
    both = {made["Deployment", name]["spec"]["template"]["metadata"]["labels"][expression["key"]]
            for name in ("penumbra", "penumbra-jobs")}  # fmt: skip
    assert set(expression["values"]) == both
    assert not made["Service", "penumbra"]["spec"]["selector"].items() <= labels.items()


def test_autoscalers_ask_for_metrics_that_exist() -> None:
    """By their names, in Prometheus' language."""
    scaled = manifests.of_kind("ScaledObject", "kubernetes/components")["spec"]["triggers"]
    (metric,) = manifests.of_kind("InferenceService", "kubernetes/kserve")["spec"]["predictor"]["autoScaling"][
        "metrics"
    ]
    queries = [each["metadata"]["query"] for each in scaled] + [metric["external"]["metric"]["query"]]
    told = {each.name for each in FAMILIES}
    for query in queries:
        assert set(re.findall(r"penumbra_\w+", query)) <= told


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor"])
def test_monitors_have_a_key(kind: str) -> None:
    """/metrics is not for everybody."""
    spec = manifests.of_kind(kind, "kubernetes")["spec"]
    (endpoint,) = spec.get("endpoints") or spec["podMetricsEndpoints"]
    assert endpoint["path"] == "/metrics"
    assert scope_of("GET", endpoint["path"]) == "read"
    assert endpoint["authorization"]["credentials"]["name"] == "penumbra-prometheus"
