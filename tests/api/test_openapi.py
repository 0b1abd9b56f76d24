"""The document that describes the service: valid, complete, true, and with examples that work when pasted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.openapi.models import OpenAPI
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, TypeAdapter

from penumbra import schemas
from service.app import create_app
from service.settings import Settings
from tests.api.json_schema import complaints, references, resolve
from tests.api.live import Server
from tests.api.wire import ROW, TINY_ROWS, rows_of

VERBS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
REGRESSIONS = ("diabetes", "silent", "noisy", "headed")
ANSWERS: dict[str, tuple[type[BaseModel], type[BaseModel]]] = {
    "predict": (schemas.RegressionPrediction, schemas.ClassPrediction),
    "sample": (schemas.RegressionSample, schemas.ClassSample),
}
TENSOR = {"name": "inputs", "shape": [1, 10], "datatype": "FP64", "data": ROW}
# What is served without being part of the described interface.
PAGES = {
    "/",
    "/playground/{path:path}",
    "/openapi.json",
    "/docs",
    "/swagger/swagger-ui-bundle.js",
    "/swagger/swagger-ui.css",
    "/swagger/favicon-32x32.png",
}


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    """The document as it is served."""
    response = server.client.get("/openapi.json")
    assert response.headers["content-type"] == "application/json"
    found: dict[str, Any] = response.json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every path, verb and operation."""
    for path, item in document["paths"].items():
        assert item.keys() <= VERBS
        for verb, operation in item.items():
            yield path, verb, operation


def concrete(path: str, operation: dict[str, Any]) -> str:
    """A path with the examples of its parameters filled in."""
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            example = parameter["example"] if "example" in parameter else parameter["schema"]["examples"][0]
            path = path.replace(f"{{{parameter['name']}}}", example)
    assert "{" not in path
    return path


def schema_of(operation: dict[str, Any], response: httpx.Response) -> dict[str, Any]:
    """What the document says of an answer with this status and this media type."""
    media_type = response.headers["content-type"].partition(";")[0]
    found: dict[str, Any] = operation["responses"][str(response.status_code)]["content"][media_type]["schema"]
    return found


def test_it_is_an_openapi_3_1_document(document: dict[str, Any]) -> None:
    """It has the structure of OpenAPI, unique operation ids, and every parameter of a path declared as required."""
    OpenAPI.model_validate(document)
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert {"title", "version", "summary"} <= document["info"].keys()
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    for path, _, operation in operations(document):
        assert path.startswith("/")
        assert operation["summary"]
        declared = {parameter["name"]: parameter for parameter in operation.get("parameters", [])}
        assert len(declared) == len(operation.get("parameters", []))
        in_path = {name for name, parameter in declared.items() if parameter["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path))
        assert all(declared[name]["required"] is True for name in in_path)
        assert all(response["description"] for response in operation["responses"].values())


def test_its_references_lead_somewhere(document: dict[str, Any]) -> None:
    """Every reference resolves, and every component is referred to."""
    found = set(references(document))
    assert all(resolve(reference, document) for reference in found)
    assert {f"#/components/schemas/{name}" for name in document["components"]["schemas"]} == found


def test_it_announces_errors_only_as_problems(document: dict[str, Any]) -> None:
    """No operation announces an error in another form than its protocol's, but for readiness: it says ready: false."""
    native = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    protocol = {"application/json": {"schema": {"$ref": "#/components/schemas/ProtocolError"}}}
    other = [
        (path, status)
        for path, _, operation in operations(document)
        for status, response in operation["responses"].items()
        if status >= "400"
        if response["content"] != (protocol if path.startswith("/v2") else native)
    ]
    assert other == [
        (path, "503")
        for path in (
            "/health/ready",
            "/v2/health/ready",
            "/v2/models/{name}/ready",
            "/v2/models/{name}/versions/{version}/ready",
        )
    ]


def test_every_route_is_described(document: dict[str, Any]) -> None:
    """Every path and verb that the application answers is in the document, and no other, pages for people apart."""
    served = {
        (context.path, verb.lower())
        for context in iter_route_contexts(create_app(Settings()).routes)
        for verb in context.methods or ()
        if context.path not in PAGES
    }
    assert served == {(path, verb) for path, verb, _ in operations(document)}


def body_of(response: httpx.Response) -> Any:
    """What an answer says: JSON, or text."""
    return response.json() if "json" in response.headers["content-type"] else response.text


def events_of(text: str) -> list[dict[str, str]]:
    """The events of a stream; there are several."""
    events = [dict(line.split(": ", 1) for line in event.splitlines()) for event in text.strip().split("\n\n")]
    assert len(events) > 1
    return events


def test_every_operation_works_when_pasted(server: Server, document: dict[str, Any]) -> None:
    """With the document's own examples every operation answers 200, with a body as described."""
    worked = 0
    for path, verb, operation in operations(document):
        requests: list[dict[str, Any]] = [{}]
        if verb == "post":
            body = operation["requestBody"]["content"]["application/json"]
            requests = [{"json": example["value"]} for example in body["examples"].values()]
            assert requests
            for request in requests:
                assert list(complaints(request["json"], body["schema"], document)) == []
        for request in requests:
            response = server.client.request(verb, concrete(path, operation), **request)
            assert response.status_code == 200, (path, request, response.text)
            if response.content:
                stream = "event-stream" in response.headers["content-type"]
                for told in events_of(response.text) if stream else [body_of(response)]:
                    assert list(complaints(told, schema_of(operation, response), document)) == []
            else:  # models are loaded and unloaded without a word
                assert "content" not in operation["responses"]["200"]
            worked += 1
    natively, protocol = 6 + 2 * (1 + 5 + 1), 4 + 2 * (4 + 3) + (2 + 1 + 1)
    assert worked == natively + protocol
    # What the examples unloaded, they loaded again.
    assert server.client.get("/v2/models/diabetes/ready").status_code == 200


REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    *((model, "predict", {}) for model in (*REGRESSIONS, "breast-cancer", "digits", "colours")),
    *(
        (model, "sample", {"seed": 3, **options})
        for model in REGRESSIONS
        for options in (
            {},
            {"samples": 1},
            {"samples": 1, "quantiles": [0.5], "return_draws": True},
            {"samples": 5, "quantiles": [0.05, 0.5], "return_draws": True, "interval": 0.5, "dropout": 1.0},
        )
    ),
    *(
        (model, "sample", {"seed": 3, **options})
        for model in ("breast-cancer", "digits", "colours")
        for options in ({}, {"samples": 1}, {"samples": 5, "aggregate": "vote", "return_draws": True})
    ),
]


@pytest.mark.parametrize(("model", "verb", "options"), REQUESTS, ids=str)
def test_every_answer_is_as_described(
    server: Server, tiny: Server, document: dict[str, Any], model: str, verb: str, options: dict[str, Any]
) -> None:
    """An answer complies with the document and with one model of the wire contract, which knows each of its fields."""
    serving = server if model in {"diabetes", "breast-cancer", "digits"} else tiny
    inputs = rows_of(serving.client, model)
    response = serving.client.post(f"/v1/models/{model}/{verb}", json={"inputs": inputs, **options})
    assert response.status_code == 200, response.text
    operation = document["paths"][f"/v1/models/{{name}}/{verb}"]["post"]
    described = schema_of(operation, response)
    assert list(complaints(response.json(), described, document)) == []
    fitting = [option for option in described["anyOf"] if not any(complaints(response.json(), option, document))]
    expected = ANSWERS[verb][model not in REGRESSIONS]
    assert [option["$ref"].rpartition("/")[2] for option in fitting] == [expected.__name__]
    parsed = TypeAdapter(expected).validate_json(response.content)
    assert parsed.model_dump(mode="json", exclude_unset=True) == response.json()


@pytest.mark.parametrize(
    "name", ["RegressionSample", "ClassSample", "RegressionPrediction", "ClassPrediction", "Problem"]
)
def test_the_document_says_what_the_wire_contract_says(document: dict[str, Any], name: str) -> None:
    """The document's schema of an answer is that of its model, fields, descriptions and all."""
    model: type[BaseModel] = getattr(schemas, name)
    schema = TypeAdapter(model).json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
    schema.pop("$defs", None)
    assert document["components"]["schemas"][name] == schema


def test_descriptions_of_models_are_as_described(server: Server, tiny: Server, document: dict[str, Any]) -> None:
    """The list and every model's description comply with the document and the wire contract, ready or not."""
    for serving in (server, tiny):
        response = serving.client.get("/v1/models")
        assert (
            list(complaints(response.json(), schema_of(document["paths"]["/v1/models"]["get"], response), document))
            == []
        )
        listed = TypeAdapter(schemas.ModelList).validate_json(response.content)
        assert listed.model_dump(mode="json") == response.json()
        for name in (entry.name for entry in listed.models if entry.ready):
            response = serving.client.get(f"/v1/models/{name}")
            operation = document["paths"]["/v1/models/{name}"]["get"]
            assert list(complaints(response.json(), schema_of(operation, response), document)) == []
            described = TypeAdapter(schemas.ModelDescription).validate_json(response.content)
            assert described.model_dump(mode="json") == response.json()


WRONG: list[tuple[str, str, dict[str, Any], int]] = [
    ("post", "/v1/models/{name}/sample", {"content": b"{"}, 400),
    ("post", "/v1/models/{name}/predict", {"json": {"inputs": [ROW]}, "headers": {"X-Deadline-Ms": "x"}}, 400),
    ("post", "/v1/models/{name}/sample", {"json": {}, "model": "none"}, 404),
    ("post", "/v1/models/{name}/sample", {"json": {"inputs": [ROW], "dropout": 0}}, 409),
    ("post", "/v1/models/{name}/predict", {"content": b" " * (Settings.model_construct().max_body_bytes + 1)}, 413),
    ("post", "/v1/models/{name}/predict", {"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415),
    ("post", "/v1/models/{name}/sample", {"json": {"inputs": [[]] * 20, "seed": -1}}, 422),
    ("post", "/v1/models/{name}/predict", {"json": {"inputs": TINY_ROWS}, "model": "broken"}, 503),
    ("get", "/v1/models/{name}", {"model": "none"}, 404),
    ("get", "/v1/models/{name}", {"model": "broken"}, 503),
]
WRONG_UNDER_V2: list[tuple[str, str, dict[str, Any], int]] = [
    ("post", "/v2/models/{name}/infer", {"content": b"{"}, 400),
    ("post", "/v2/models/{name}/infer", {"json": {}, "model": "none"}, 404),
    ("post", "/v2/models/{name}/infer", {"json": {"inputs": [TENSOR], "parameters": {"seed": 1, "dropout": 0}}}, 409),
    ("post", "/v2/models/{name}/infer", {"content": b" " * (Settings.model_construct().max_body_bytes + 1)}, 413),
    ("post", "/v2/models/{name}/infer", {"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415),
    ("post", "/v2/models/{name}/infer", {"json": {}, "model": "broken"}, 503),
    ("post", "/v2/repository/models/{name}/load", {"json": {"canary": 1}}, 400),
    ("post", "/v2/repository/models/{name}/unload", {"model": "none"}, 404),
    ("post", "/v2/repository/models/{name}/load", {"model": "broken"}, 503),
    ("get", "/v2/models/{name}", {"model": "none"}, 404),
    ("get", "/v2/models/{name}/config", {"model": "broken"}, 503),
    ("get", "/v2/models/{name}/ready", {"model": "broken"}, 503),
]


@pytest.mark.parametrize(("verb", "path", "request_", "status"), WRONG, ids=[f"{v} {s}" for v, _, _, s in WRONG])
def test_every_problem_is_as_described(
    server: Server, tiny: Server, document: dict[str, Any], verb: str, path: str, request_: dict[str, Any], status: int
) -> None:
    """The statuses that the document announces come with the problem that it describes."""
    arguments = {"headers": {"Content-Type": "application/json"}, **request_}
    model = arguments.pop("model", "diabetes")
    serving = tiny if model == "broken" else server
    response = serving.client.request(verb, path.replace("{name}", model), **arguments)
    assert response.status_code == status
    schema = schema_of(document["paths"][path][verb], response)
    assert list(complaints(response.json(), schema, document)) == []
    problem = TypeAdapter(schemas.Problem).validate_json(response.content)
    assert problem.model_dump(mode="json") == response.json()


@pytest.mark.parametrize(
    ("verb", "path", "request_", "status"), WRONG_UNDER_V2, ids=[f"{v} {s}" for v, _, _, s in WRONG_UNDER_V2]
)
def test_every_error_of_the_protocol_is_as_described(
    server: Server, tiny: Server, document: dict[str, Any], verb: str, path: str, request_: dict[str, Any], status: int
) -> None:
    """The statuses that the document announces under /v2 come in the form that it describes."""
    arguments = {**request_}
    model = arguments.pop("model", "diabetes")
    serving = tiny if model == "broken" else server
    response = serving.client.request(verb, path.replace("{name}", model), **arguments)
    assert response.status_code == status
    assert list(complaints(response.json(), schema_of(document["paths"][path][verb], response), document)) == []


def test_the_checker_of_schemas_finds_faults(document: dict[str, Any]) -> None:
    """A good request complies, and one with any single fault does not: the checks above can fail."""
    schema = {"$ref": "#/components/schemas/SampleRequest"}
    good = {"inputs": [ROW, {"age": 1}], "seed": 0, "samples": 1, "quantiles": [0.5], "method": "dropout"}
    assert list(complaints(good, schema, document)) == []
    for fault in (
        {"inputs": []},
        {"inputs": [[{"1": 1}]]},
        {"seed": -1},
        {"seed": 2**53},
        {"seed": 7.5},
        {"seed": True},
        {"samples": 0},
        {"quantiles": [1]},
        {"quantiles": [0.5] * 33},
        {"method": "magic"},
        {"interval": 0},
        {"dropout": 1.1},
        {"return_draws": 1},
        {"canary": 1},
    ):
        assert list(complaints({**good, **fault}, schema, document)), fault
    assert list(complaints({"seed": 1}, schema, document)) == ["$ breaks required ['inputs']"]


def test_the_page_for_people_needs_no_other_host(server: Server) -> None:
    """/docs refers to this service alone, for scripts, styles, icon and document, and all of them are served."""
    page = server.client.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    linked = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text) + re.findall(r"url: '([^']+)'", page.text)
    assert len(linked) == 4
    base = httpx.URL(server.url)
    for address in linked:
        absolute = base.join(address)
        assert (absolute.host, absolute.port) == (base.host, base.port)
        asset = server.client.get(absolute)
        assert asset.status_code == 200
        assert len(asset.content) > 100
    elsewhere = re.findall(r"(?:https?:)?//[\w.-]+[^\s\"'<]*", page.text)
    assert [address for address in elsewhere if not address.startswith(server.url)] == []


def test_the_page_for_people_tells_no_validator(server: Server) -> None:
    """The page does not send the document's address to the validator on the internet that it would ask by default."""
    assert '"validatorUrl": null' in server.client.get("/docs").text
