"""The package as its users see it: two faces that are one, names that are listed, imports that cost nothing."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from typing import Any

import pytest

import penumbra
from penumbra import AsyncClient, AsyncJob, Client, Job, errors
from tests.docs.test_examples import at

METHODS = {
    Client: ("models", "model", "predict", "sample", "stream", "submit", "job", "jobs", "close"),
    Job: ("status", "wait", "result", "cancel", "forget"),
}
# But for the one that needs Ray, and has no examples.
MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(penumbra.__path__, "penumbra.")
    if "__main__" not in name and name != "penumbra.scoring.cluster"
]


def public(kind: type) -> dict[str, Any]:
    """The methods that a class shows."""
    return {name: found for name, found in inspect.getmembers(kind, callable) if not name.startswith("_")}


@pytest.mark.parametrize(("kind", "asynchronous"), [(Client, AsyncClient), (Job, AsyncJob)])
def test_both_faces_have_the_same_methods(kind: type, asynchronous: type) -> None:
    """Names, parameters, defaults and types; the asynchronous ones are coroutines, or generators of the same."""
    sync, other = public(kind), public(asynchronous)
    assert set(sync) == set(other) == set(METHODS[kind])
    for name, method in sync.items():
        mine, theirs = inspect.signature(method), inspect.signature(other[name])
        assert mine.parameters == theirs.parameters, name
        returned = re.sub(r"\b(Iterator|Job)\b", r"Async\1", str(mine.return_annotation))
        assert str(theirs.return_annotation) == returned
        assert inspect.iscoroutinefunction(other[name]) != inspect.isasyncgenfunction(other[name])
        assert method.__doc__
        assert other[name].__doc__


def test_the_exported_names_are_these() -> None:
    """Each can be had from the package, and every error of the tree is among them."""
    for name in penumbra.__all__:
        assert getattr(penumbra, name) is not None
        assert name in dir(penumbra)
    tree = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    tree.discard("ValidationError")
    assert tree <= set(penumbra.__all__)
    drawn = {word for word in (errors.__doc__ or "").split() if word in tree}
    assert drawn == tree
    with pytest.raises(AttributeError, match="no attribute 'client_'"):
        _ = penumbra.client_  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import penumbra", ("httpx", "pydantic", "numpy", "torch", "asyncio", "json", "typing")),
        ("import penumbra.schemas", ("httpx", "numpy", "torch")),
        ("from penumbra import Client; Client()", ("numpy", "torch", "pandas", "pyarrow")),
    ],
)
def test_imports_bring_only_what_is_needed(statement: str, unwanted: tuple[str, ...]) -> None:
    """The package alone is a few names; the wire contract needs no HTTP; the client no arrays until it has some."""
    program = f"{statement}\nimport sys\nprint(sorted(set({unwanted!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_options_that_there_are_not_are_a_mistake_of_the_program() -> None:
    """As with any other function; the service isn't asked."""
    with pytest.raises(TypeError, match="no option 'sampels' of sampling; there are seed, samples"):
        Client("http://127.0.0.1:1").sample("m", [[1.0]], sampels=7)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_do_what_they_say(server: Any, name: str) -> None:
    """Each runs against the real service."""
    module = importlib.import_module(name)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    shared: dict[str, Any] = {}
    for test in sorted(doctest.DocTestFinder().find(module), key=lambda test: test.lineno or 0):
        test.globs = shared
        for example in test.examples:
            example.source = at(server, example.source)
        runner.run(test, out=report.append, clear_globs=False)
    for made in shared.values():
        if isinstance(made, Client):
            made.close()
    assert runner.failures == 0, "".join(report)
