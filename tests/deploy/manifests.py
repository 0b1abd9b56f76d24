"""Manifests, and schemas to hold them against: Kubernetes' own from a package, those of others from files of theirs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

ROOT = Path(__file__).parents[2]
# The oldest release that knows `preStop.sleep` without being asked to, and the newest that the package knows.
RELEASES = ("1.30", "1.37")
# A directory with the definitions (CRDs) that KServe, KEDA, KubeRay and the Prometheus operator publish.
DEFINITIONS = os.environ.get("CRDS", "")
# What kustomize reads itself.
_KUSTOMIZE = ("Kustomization", "Component")

Resource = dict[str, Any]


def resources(text: str) -> list[Resource]:
    """The resources in YAML, in order."""
    return [found for found in yaml.safe_load_all(text) if found]


def files(folder: str) -> Iterator[tuple[Path, Resource]]:
    """Every resource below a folder of deploy/, with its file."""
    for path in sorted((ROOT / "deploy" / folder).rglob("*.yaml")):
        for found in resources(path.read_text()):
            if "apiVersion" in found and found["kind"] not in _KUSTOMIZE:
                yield path, found


def is_of_others(resource: Resource) -> bool:
    """Whether somebody else than Kubernetes defines it."""
    group = resource["apiVersion"].rpartition("/")[0]
    return "." in group and not group.endswith(".k8s.io")


def of_kind(kind: str, *folders: str) -> Resource:
    """The only resource of a kind."""
    (found,) = (each for folder in folders for _, each in files(folder) if each["kind"] == kind)
    return found


def pod_templates(resource: Any) -> Iterator[Resource]:
    """Every pod spec in a resource, whoever defined that."""
    if isinstance(resource, dict):
        if "containers" in resource:
            yield resource
        for value in resource.values():
            yield from pod_templates(value)
    elif isinstance(resource, list):
        for value in resource:
            yield from pod_templates(value)


def complaints(resource: Resource, definition: Resource) -> list[str]:
    """What the API server would say of a resource, by its definition, where fields that nobody knows are mistakes.

    Rules in the definition's own language (CEL) are not looked at.
    """
    version = resource["apiVersion"].rpartition("/")[2]
    (schema,) = (
        each["schema"]["openAPIV3Schema"] for each in definition["spec"]["versions"] if each["name"] == version
    )
    top = {**schema, "properties": {**schema["properties"], "metadata": {"type": "object"}}}
    validator = jsonschema.Draft7Validator(_strict(top))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(resource)]


def _strict(schema: Any) -> Any:
    """An OpenAPI schema as JSON Schema that knows no fields but its own."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _strict(value) for name, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    if schema.get("nullable") and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


def definition_of(resource: Resource) -> Resource:
    """The definition of a resource's kind among the files in CRDS. Raises LookupError where none has it."""
    kind = resource["apiVersion"].rpartition("/")[0], resource["kind"]
    for path in sorted(Path(DEFINITIONS).rglob("*.yaml")):
        if f"kind: {resource['kind']}\n" not in (text := path.read_text()):
            continue
        for found in yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if found and found["kind"] == "CustomResourceDefinition":
                named = found["spec"]["group"], found["spec"]["names"]["kind"]
                if named == kind:
                    return found
    raise LookupError(f"no file in {DEFINITIONS} defines {kind}")
