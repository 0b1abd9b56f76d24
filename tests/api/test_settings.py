"""Settings: documented, taken from flags and environment, and clear about what is wrong with a value."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from pydantic import ValidationError
from pydantic_settings import CliApp

from service.complaints import complaints
from service.settings import Settings, unknown_variables, usable_cores
from tests.api.live import ROOT

# Field → two values other than the default, as they are written, and what they mean.
VALUES: dict[str, tuple[tuple[str, object], tuple[str, object]]] = {
    "host": (("0.0.0.0", "0.0.0.0"), ("::1", "::1")),
    "port": (("0", 0), ("65535", 65535)),
    "keys_file": (("/canary", "/canary"), ("canary", "canary")),
    "keys": (("{}", "{}"), ("canary", "canary")),
    "jwt_keys": (("/canary", "/canary"), ("https://canary.test/keys", "https://canary.test/keys")),
    "jwt_issuer": (("https://canary.test", "https://canary.test"), ("canary", "canary")),
    "jwt_audience": (("canary", "canary"), ("penumbra", "penumbra")),
    "allow_anonymous": (("true", True), ("false", False)),
    "allowed_hosts": (("canary.test", "canary.test"), ("a,*.b", "a,*.b")),
    "tls_cert": (("/canary", "/canary"), ("canary", "canary")),
    "tls_key": (("/canary", "/canary"), ("canary", "canary")),
    "docs": (("false", False), ("true", True)),
    "receive_seconds": (("0.5", 0.5), ("99", 99.0)),
    "store": (("/", Path("/")), ("s3://canary/some/prefix", "s3://canary/some/prefix")),
    "cache": (("/", Path("/")), ("canary", Path("canary"))),
    "watch_seconds": (("0", 0.0), ("0.5", 0.5)),
    "keep_versions": (("1", 1), ("99", 99)),
    "max_connections": (("0", 0), ("99", 99)),
    "memory_share": (("0.5", 0.5), ("1", 1.0)),
    "workers": (("2", 2), ("256", 256)),
    "threads": (("3", 3), ("256", 256)),
    "device": (("cpu", "cpu"), ("auto", "auto")),
    "max_body_bytes": (("1", 1), ("99", 99)),
    "max_rows": (("1", 1), ("99", 99)),
    "max_samples": (("1", 1), ("99", 99)),
    "max_evaluations": (("1", 1), ("99", 99)),
    "max_numbers": (("1", 1), ("99", 99)),
    "max_returned_draws": (("1", 1), ("99", 99)),
    "max_queue": (("1", 1), ("99", 99)),
    "max_queue_seconds": (("0.5", 0.5), ("99", 99.0)),
    "mask_cache_bytes": (("0", 0), ("99", 99)),
    "answer_cache_bytes": (("0", 0), ("99", 99)),
    "redis_url": (
        ("redis://canary:6379/0", "redis://canary:6379/0"),
        ("rediss://:a%2Fb@canary", "rediss://:a%2Fb@canary"),
    ),
    "jobs_dir": (("/", Path("/")), ("/usr", Path("/usr"))),
    "jobs_database": (
        ("postgresql://canary:a%2Fb@host:5432/jobs", "postgresql://canary:a%2Fb@host:5432/jobs"),
        ("postgresql://canary/jobs", "postgresql://canary/jobs"),
    ),
    "jobs_keep_hours": (("0.5", 0.5), ("99", 99.0)),
    "max_jobs": (("1", 1), ("99", 99)),
    "max_kept_jobs": (("1", 1), ("99", 99)),
    "max_job_rows": (("1", 1), ("99", 99)),
    "max_job_bytes": (("1", 1), ("99", 99)),
    "job_chunk_rows": (("1", 1), ("99", 99)),
    "deadline_ms": (("1", 1), ("99", 99)),
    "stop_delay_seconds": (("0", 0.0), ("2.5", 2.5)),
    "log_level": (("debug", "debug"), ("critical", "critical")),
    "log_format": (("json", "json"), ("text", "text")),
    "access_log": (("off", False), ("on", True)),
    "metrics": (("false", False), ("true", True)),
    "metrics_dir": (("/dev/shm/canary", "/dev/shm/canary"), ("canary", "canary")),
    "otlp_endpoint": (("http://127.0.0.1:4318", "http://127.0.0.1:4318"), ("http://[::1]", "http://[::1]")),
}
WRONG = [
    ("port", "canary"),
    ("port", "-1"),
    ("port", "65536"),
    ("port", "80.5"),
    ("store", "/canary/does/not/exist"),
    ("store", str(Path(__file__))),
    ("store", "canary://bucket"),
    ("store", "s3://"),
    ("watch_seconds", "-1"),
    ("watch_seconds", "inf"),
    ("keep_versions", "-1"),
    ("max_connections", "-1"),
    ("memory_share", "1.1"),
    ("allow_anonymous", "maybe"),
    ("allowed_hosts", "http://canary.test"),
    ("allowed_hosts", "canary.test:8000"),
    ("allowed_hosts", "a.test,*"),
    ("receive_seconds", "0"),
    ("workers", "-1"),
    ("threads", "-1"),
    ("device", "canary"),
    ("max_body_bytes", "0"),
    ("max_body_bytes", "8MiB"),
    ("max_rows", "1e3"),
    ("max_samples", "0"),
    ("max_evaluations", "none"),
    ("max_numbers", "0"),
    ("max_returned_draws", "0"),
    ("max_queue", "0"),
    ("max_queue_seconds", "0"),
    ("mask_cache_bytes", "-1"),
    ("answer_cache_bytes", "-1"),
    ("redis_url", "http://canary"),
    ("redis_url", "redis://"),
    ("redis_url", "redis://canary:port"),
    ("redis_url", "unix://"),
    ("jobs_dir", "/canary"),
    ("jobs_database", "sqlite:///canary"),
    ("jobs_database", "postgresql://canary"),
    ("jobs_database", "postgresql://canary:port/jobs"),
    ("jobs_keep_hours", "0"),
    ("max_jobs", "0"),
    ("max_kept_jobs", "0"),
    ("max_job_rows", "0"),
    ("max_job_bytes", "0"),
    ("job_chunk_rows", "0"),
    ("deadline_ms", "0"),
    ("stop_delay_seconds", "-1"),
    ("log_level", "loud"),
    ("log_format", "xml"),
    ("access_log", "maybe"),
    ("metrics", "2"),
]


def flag(field: str) -> str:
    """A field's flag."""
    return "--" + field.replace("_", "-")


def variable(field: str) -> str:
    """A field's environment variable."""
    return "PENUMBRA_" + field.upper()


@pytest.fixture(autouse=True)
def _bare_environment() -> object:
    """The environment without settings, and put back after the test."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PENUMBRA_")}
    with mock.patch.dict(os.environ, bare, clear=True):
        yield


def run_service(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m service` to its end: for calls that do not start a server."""
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_setting_is_described_and_in_the_help() -> None:
    """Each field has a description that is a sentence; --help shows it with its flag and default."""
    shown = run_service("--help")
    assert shown.returncode == 0
    assert shown.stderr == ""
    text = re.sub(r"\s+", " ", shown.stdout)
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name
        found = re.search(re.escape(flag(name)) + r" (?:\w+|\{[\w,]+\}) " + re.escape(field.description), text)
        assert found, name
        assert text[found.end() :].startswith(f" (default: {field.default})"), name
    assert "PENUMBRA_MAX_ROWS" in text


def test_every_setting_is_tested_here() -> None:
    """The table of values below knows every field."""
    assert VALUES.keys() == Settings.model_fields.keys()


@pytest.mark.parametrize("field", VALUES)
def test_a_setting_is_read_from_flag_and_environment_and_the_flag_wins(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same value comes from either; where both are given, it is the flag's."""
    (written, value), (other, meant) = VALUES[field]
    assert getattr(CliApp.run(Settings, cli_args=[flag(field), written]), field) == value
    monkeypatch.setenv(variable(field), written)
    assert getattr(CliApp.run(Settings, cli_args=[]), field) == value
    assert getattr(Settings(), field) == value
    assert getattr(CliApp.run(Settings, cli_args=[flag(field), other]), field) == meant


@pytest.mark.parametrize("field", VALUES)
def test_an_empty_variable_is_no_value(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set to nothing, as compose files do, leaves the default."""
    monkeypatch.setenv(variable(field), "")
    assert getattr(Settings(), field) == Settings.model_fields[field].default


@pytest.mark.parametrize(("field", "written"), WRONG)
def test_a_wrong_value_is_refused(field: str, written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of range, of another type, or a store that is no directory: the error is about that field alone."""
    monkeypatch.setenv(variable(field), written)
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert [error["loc"] for error in refused.value.errors()] == [(field,)]


@pytest.mark.parametrize("through", ["flag", "environment"])
def test_a_wrong_value_is_told_in_one_line(through: str) -> None:
    """The service ends at once with one line for each wrong value: flag, variable and rule; no traceback."""
    wrong = {"max_rows": "canary", "device": "canary"}
    if through == "flag":
        ended = run_service(*(part for field, value in wrong.items() for part in (flag(field), value)))
    else:
        ended = run_service(**{variable(field): value for field, value in wrong.items()})
    assert ended.returncode not in {0, None}
    assert ended.stdout == ""
    rows, device = sorted(ended.stderr.splitlines(), key=lambda line: "device" in line)
    assert device == (
        "python -m service: error: --device (or PENUMBRA_DEVICE): must be auto, cpu or cuda, not 'canary'"
    )
    assert rows == ("python -m service: error: --max-rows (or PENUMBRA_MAX_ROWS): must be a whole number, not 'canary'")


def test_the_flag_wins_on_the_command_line() -> None:
    """With a wrong variable and a wrong flag it is the flag that is complained about."""
    ended = run_service("--port", "70000", PENUMBRA_PORT="canary")
    assert "--port (or PENUMBRA_PORT): must be from 0 to 65535, not '70000'" in ended.stderr
    assert "canary" not in ended.stderr


def test_a_store_that_is_not_there_is_told() -> None:
    """A mistyped directory ends the service, which would otherwise start with nothing to serve."""
    ended = run_service("serve", "--store", "/canary/store")
    assert ended.returncode not in {0, None}
    assert "--store (or PENUMBRA_STORE): there is no directory /canary/store" in ended.stderr


@pytest.mark.parametrize(
    ("field", "written", "said"),
    [
        ("port", "80.5", "must be a whole number, not '80.5'"),
        ("max_rows", "0", "must be at least 1, not '0'"),
        ("memory_share", "2", "must be from 0 to 1, not '2'"),
        ("receive_seconds", "0", "must be more than 0, not '0'"),
        ("receive_seconds", "soon", "must be a number, not 'soon'"),
        ("docs", "maybe", "must be true or false, not 'maybe'"),
        ("docs", "maybe" * 20, f"must be true or false, not '{('maybe' * 20)[:39]}…"),
        ("store", __file__, f"{__file__} is not a directory"),
        ("store", "s3:/canary", "there is no directory s3:/canary; a URL begins with s3://"),
        ("store", "canary://x", "there is no such kind of store; a URL begins with one of s3://, gs://"),
        ("jobs_dir", "/canary", "there is no directory /canary"),
        ("allowed_hosts", "a.test, http://x", "'http://x' is not a host: write a name (example.com), "),
        ("redis_url", "http://:secret@canary", "must be redis://HOST:PORT/NUMBER, rediss://… for TLS, or unix:///PATH"),
    ],
)
def test_what_is_wrong_is_said_in_words(field: str, written: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to know what checks settings, or what its types are called."""
    monkeypatch.setenv(variable(field), written)
    with pytest.raises(ValidationError) as refused:
        Settings()
    (line,) = complaints(refused.value)
    assert line.startswith(f"python -m service: error: {flag(field)} (or {variable(field)}): {said}")
    assert "secret" not in line


@pytest.mark.parametrize("argument", ["--max-row", "--canary", "canary", "-p"])
def test_an_unknown_flag_is_told(argument: str) -> None:
    """Mistyped flags are refused, abbreviations included, with the usage."""
    ended = run_service(argument, "5")
    assert ended.returncode == 2
    assert "usage: python -m service" in ended.stderr
    assert f"unrecognized arguments: {argument} 5" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("PENUMBRA_MAX_ROW", "PENUMBRA_MAX_ROW is not a setting; did you mean PENUMBRA_MAX_ROWS?"),
        ("PENUMBRA_KEY_FILE", "PENUMBRA_KEY_FILE is not a setting; did you mean PENUMBRA_KEYS_FILE?"),
        ("PENUMBRA_CANARY_SOUP", "PENUMBRA_CANARY_SOUP is not a setting"),
    ],
)
def test_a_mistyped_variable_is_told(name: str, said: str) -> None:
    """It would otherwise change nothing, without a word; one that holds a secret is not shown."""
    ended = run_service(**{name: "secret canary"})
    assert ended.returncode not in {0, None}
    assert ended.stderr == f"python -m service: error: {said}\n"


def test_variables_of_others_are_left_alone() -> None:
    """The client's, and what Kubernetes makes for a service of this name."""
    others = [
        "PENUMBRA_URL",
        "PENUMBRA_API_KEY",
        "PENUMBRA_SERVICE_HOST",
        "PENUMBRA_PORT_8000_TCP_ADDR",
        "PATH",
        "penumbra_x",
    ]
    assert unknown_variables([*others, "PENUMBRA_STORE", "PENUMBRA_SERVICE_PORT_HTTP"]) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "canary.test"])
def test_nobody_is_served_by_accident(host: str) -> None:
    """Where others can reach the service and there are no keys it does not start, and says both ways out."""
    ended = run_service("--host", host, "--port", "0")
    assert ended.returncode not in {0, None}
    (line,) = ended.stderr.splitlines()
    for way in ("python -m service keys add", "--keys-file", "PENUMBRA_KEYS_FILE", "--allow-anonymous true"):
        assert way in line


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"keys_file": "/canary/keys"}, "--keys-file (or PENUMBRA_KEYS_FILE): there is no file /canary/keys"),
        ({"keys": "[]"}, "PENUMBRA_KEYS, line 1: the line: Input should be a valid dictionary"),
        ({"jwt_keys": "/canary/jwks"}, "tokens need an issuer and an audience: set --jwt-issuer and --jwt-audience"),
        (
            {"jwt_keys": "http://canary.test/keys", "jwt_issuer": "a", "jwt_audience": "b"},
            "--jwt-keys must be a file or an https URL",
        ),
        (
            {"jwt_keys": "/canary/keys", "jwt_issuer": "a", "jwt_audience": "b"},
            "--jwt-keys (or PENUMBRA_JWT_KEYS): can't be read: [Errno 2] No such file",
        ),
        ({"tls_cert": "/canary/cert.pem"}, "--tls-cert (or PENUMBRA_TLS_CERT): there is no file /canary/cert.pem"),
        ({"tls_cert": __file__, "tls_key": "/canary"}, "--tls-key (or PENUMBRA_TLS_KEY): there is no file /canary"),
        ({"tls_cert": __file__}, f"--tls-cert, --tls-key: {__file__} can't be used: [SSL"),
        ({"host": "canary.invalid", "allow_anonymous": "true"}, "--host (or PENUMBRA_HOST): canary.invalid: "),
        ({"host": "192.0.2.1", "allow_anonymous": "true"}, "--host, --port: 192.0.2.1:0: Cannot assign requested"),
        pytest.param(
            {"device": "cuda"},
            "--device (or PENUMBRA_DEVICE): there is no GPU that PyTorch can use",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_what_can_not_be_used_is_told_before_anything_starts(settings: dict[str, str], said: str) -> None:
    """One line, no traceback."""
    ended = run_service(**{variable(name): value for name, value in settings.items()}, PENUMBRA_PORT="0")
    assert ended.returncode not in {0, None}
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"python -m service: error: {said}")


def test_a_port_in_use_is_told() -> None:
    """By its address, with a way out."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = run_service("--port", str(port))
    assert ended.returncode not in {0, None}
    said = f"127.0.0.1:{port} is in use by another process: choose another --port (make serve PORT=…)"
    assert ended.stderr == f"python -m service: error: {said}\n"


def test_what_is_wrong_is_told_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    """Neither PyTorch nor the server, nor, for jobs, DBOS, stand between a mistake and its line."""
    (tmp_path / "lock").touch()
    with (tmp_path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for arguments, said in (
            (["--keys-file", "/canary"], "there is no file /canary"),
            (["jobs", "--jobs-dir", str(tmp_path)], f"another process works on the jobs in {tmp_path}"),
        ):
            ended = subprocess.run(
                [sys.executable, "-X", "importtime", "-m", "service", *arguments],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            assert ended.returncode == 1
            assert said in ended.stderr
            imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in ended.stderr.splitlines()}
            assert "service" in imported
            assert not imported & {"torch", "fastapi", "uvicorn", "dbos", "sqlalchemy"}


@pytest.mark.parametrize(("threads", "workers", "expected"), [(0, 1, None), (0, 256, 1), (5, 1, 5), (5, 256, 5)])
def test_engine_threads_share_the_cores(threads: int, workers: int, expected: int | None) -> None:
    """By default the workers share the cores of the machine, with at least one thread each."""
    assert Settings(threads=threads, workers=workers).engine_threads == (expected or usable_cores())


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("9900000 100000", 8),
        (None, 8),
    ],
)
def test_a_containers_limit_counts(
    limit: str | None, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where less processor time is allowed than there are cores, workers and threads are made for what is allowed."""
    if limit is not None:
        (tmp_path / "cpu.max").write_text(limit + "\n")
    monkeypatch.setattr("service.settings._CPU_LIMIT", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert usable_cores() == cores


def test_settings_do_not_change() -> None:
    """Settings are frozen."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]
