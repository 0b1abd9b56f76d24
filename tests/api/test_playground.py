"""The playground's files: what is served, under which policy, and what is vendored."""

from __future__ import annotations

import json
import re

import httpx
import pytest

from service.api.playground import FILES, read
from tests.api.live import Server
from tests.api.wire import assert_problem
from tests.docs.test_project import ROOT

PATHS = ["/", *(f"/playground/{path}" for path, _ in read(FILES))]
MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "woff2": "font/woff2",
}


def file_of(path: str) -> bytes:
    """What lies behind a path."""
    return (FILES / (path.removeprefix("/playground/").lstrip("/") or "index.html")).read_bytes()


@pytest.mark.parametrize("path", PATHS)
def test_each_file_is_served_whole_and_strictly(server: Server, path: str) -> None:
    """Its bytes, its media type, a policy that allows nothing from elsewhere, and a tag to ask for it again by."""
    answer = server.client.get(path)
    assert answer.status_code == 200
    assert answer.content == file_of(path)
    assert answer.headers["content-type"] == MEDIA_TYPES[path.rpartition(".")[2] if path != "/" else "html"]
    policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["trusted-types"] == "'none'"
    assert set(policy.values()) <= {"'none'", "'self'", "'script'"}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"
    assert re.fullmatch(r'"[0-9a-f]{32}"', answer.headers["etag"])
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/", "/playground/app.js"])
def test_a_file_that_the_caller_has_is_not_sent_again(server: Server, path: str) -> None:
    """Its tag, alone or among others or weakened, is answered with 304, the policy and no body; another with 200."""
    tag = server.client.get(path).headers["etag"]
    for known in (tag, f'"x", {tag}', f"W/{tag}"):
        answer = server.client.get(path, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
        assert "content-security-policy" in answer.headers
    assert server.client.get(path, headers={"If-None-Match": '"x"'}).status_code == 200


def test_head_is_get_without_a_body(server: Server) -> None:
    """Same headers, the length included."""
    get, head = server.client.get("/"), server.client.head("/")
    assert head.status_code == 200
    assert head.content == b""
    volatile = {"date", "x-request-id"}
    assert {n: v for n, v in head.headers.items() if n not in volatile} == {
        n: v for n, v in get.headers.items() if n not in volatile
    }


@pytest.mark.parametrize(
    "path",
    [
        "/playground",
        "/playground/",
        "/playground/canary.js",
        "/playground/vendor/package.json",
        "/playground/../app.py",
        "/playground/..%2fapp.py",
        "/playground/%2e%2e/settings.py",
        "/playground//etc/passwd",
        "/playground/app.js/",
    ],
)
def test_nothing_else_is_served(server: Server, path: str) -> None:
    """What is no file of the page, or lies elsewhere, is a 404 like any other; so is what only describes the files."""
    request = server.client.build_request("GET", "/")
    request.url = httpx.URL(f"{server.url}{path}")
    assert "/docs" in assert_problem(server.client.send(request), 404)["detail"]


def test_other_verbs_are_refused(server: Server) -> None:
    """405, with the verbs that there are."""
    for path in ("/", "/playground/app.js"):
        answer = server.client.post(path)
        assert_problem(answer, 405)
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_the_page_is_not_in_the_interface(server: Server) -> None:
    """/openapi.json is about the service."""
    assert not [
        path for path in server.client.get("/openapi.json").json()["paths"] if "playground" in path or path == "/"
    ]


def test_the_page_names_only_files_that_are_there() -> None:
    """Whatever the page, its scripts and its styles refer to is served, and nothing of it lies elsewhere."""
    served = dict(read(FILES))
    for path, file in served.items():
        if path.startswith("vendor/") or not path.endswith((".html", ".css", ".js")):
            continue
        text = file.body.decode()
        for found in re.findall(r'(?:src|href)="([^"]*)"', text):
            assert found in {"./", "docs"} or found.startswith("#") or found.removeprefix("playground/") in served, (
                found
            )
        for found in re.findall(r'from "\./([^"]+)"|url\("([^"]+)"\)', text):
            assert "".join(found) in served, found
        assert re.findall(r"https?://[^\"'`\s]+", text) in ([], ["http://www.w3.org/2000/svg"]), path


def test_what_is_vendored_is_what_is_recorded() -> None:
    """Versions are exact and the lock has the hashes of their packages; each comes with its licence."""
    vendor = FILES / "vendor"
    wanted = json.loads((vendor / "package.json").read_text())["dependencies"]
    locked = json.loads((vendor / "package-lock.json").read_text())["packages"]
    assert {name.removeprefix("node_modules/"): one["version"] for name, one in locked.items() if name} == wanted
    assert all(one["integrity"].startswith("sha512-") for name, one in locked.items() if name)
    assert f"(v{wanted['uplot']})" in (vendor / "uPlot.iife.min.js").read_text()[:100]
    assert "MIT License" in (vendor / "uPlot.LICENSE.txt").read_text()
    assert "SIL OPEN FONT LICENSE" in (vendor / "Inter.LICENSE.txt").read_text().upper()
    recipe = (ROOT / "Makefile").read_text()
    for path in vendor.iterdir():
        assert path.name in recipe or path.name.startswith("package"), f"make vendor does not know {path.name}"
