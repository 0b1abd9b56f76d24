"""What docs/protocols.md says of the image as a KServe serving runtime, against the service."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from service.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "protocols.md").read_text()


def runtime() -> tuple[dict[str, Any], dict[str, Any]]:
    """The serving runtime and the inference service of the page."""
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    found = {document["kind"]: document for document in yaml.safe_load_all(block)}
    return found["ServingRuntime"], found["InferenceService"]


def test_the_runtime_sets_what_can_be_set() -> None:
    """Its variables are settings, and their values are such as these take."""
    (container,) = runtime()[0]["spec"]["containers"]
    assert container["name"] == "kserve-container"
    fields = {one["name"].removeprefix("PENUMBRA_").lower(): one.get("value") for one in container["env"]}
    assert fields.keys() <= Settings.model_fields.keys()
    settings = Settings(host=fields["host"], port=fields["port"])
    assert not settings.loopback, "its probes come from outside"
    assert "keys" in fields, "without any it would not start there"
    assert {port["containerPort"] for port in container["ports"]} == {settings.port}
    assert {container[probe]["httpGet"]["port"] for probe in ("livenessProbe", "readinessProbe")} == {settings.port}


def test_the_probes_are_answered(server: Any) -> None:
    """Both routes answer 200 while the service runs."""
    (container,) = runtime()[0]["spec"]["containers"]
    for probe in ("livenessProbe", "readinessProbe"):
        assert server.client.get(container[probe]["httpGet"]["path"]).status_code == 200


def test_the_inference_service_asks_for_that_runtime() -> None:
    """By its name, its format and its protocol."""
    serving, service = runtime()
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == serving["metadata"]["name"]
    assert model["modelFormat"]["name"] in {known["name"] for known in serving["spec"]["supportedModelFormats"]}
    assert model["protocolVersion"] in serving["spec"]["protocolVersions"]
