"""python -m models: what it prints, what it refuses, and that nothing in a store can garble its words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from typer.testing import CliRunner

from models.__main__ import app
from models.architecture import Mlp, RegressionHead
from models.description import describe_architecture
from models.features import Feature, Target
from models.repository import WEIGHTS, Repository
from models.training import Hyperparameters, Recipe
from tests.models.examples import linear_data, version_of
from tests.models.test_training import CLASSIFICATION

ROOT = Path(__file__).resolve().parents[2]


class Answer:
    """What a command printed, without colours, and how it ended."""

    def __init__(self, *words: object) -> None:
        # Some variables of CI systems turn colours on.
        result = CliRunner().invoke(app, [str(word) for word in words], prog_name="python -m models")
        self.output, self.errors, self.code = (
            click.unstyle(result.stdout),
            click.unstyle(result.stderr),
            result.exit_code,
        )
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception

    @property
    def words(self) -> str:
        """The output in one line, frames left out."""
        return " ".join(self.output.replace("│", " ").split())


@pytest.fixture
def store(tmp_path):
    """A store with two models, one of them in two versions."""
    repository = Repository(tmp_path / "store")
    for name, version in (("net", "2"), ("net", "10"), ("bone-density", "1")):
        repository.publish(*version_of(name=name, version=version, description="Bone density [g/cm²] by age."))
    return repository


@pytest.fixture
def kitchen(monkeypatch):
    """Recipes that are trained in a moment, in place of those that ship."""
    bad = Recipe(
        name="bad",
        description="Steps that are far too long.",
        load=lambda: linear_data(60, noise=1.0),
        architecture=Mlp(inputs=3, hidden=(4,), head=RegressionHead()),
        hyperparameters=Hyperparameters(learning_rate=1e30),
    )
    monkeypatch.setattr("models.recipes.recipes", lambda: {"bad": bad, "tiny": CLASSIFICATION})


# Help


def test_help_explains_every_command():
    """The help names every command with a sentence about it."""
    answer = Answer("--help")
    assert answer.code == 0
    for sentence in (
        "train Train recipes, or a table of your own, and publish the results as new versions.",
        "calibrate Fit a version's noise, temperature and conformal quantiles again",
        "list List every version of every model in the store.",
        "describe Show a model's layers, its dropout sites, and what a row and a sample cost.",
    ):
        assert sentence in answer.words


@pytest.mark.parametrize(
    ("command", "phrases"),
    [
        (
            "train",
            [
                "Recipes: breast-cancer, diabetes, digits, digits-ensemble, mnist-ff, or all of them: all.",
                "Or a table of your own: a CSV or Parquet file.",
                "The same recipe, or the same table with the same options, gives the same digest",
                "PENUMBRA_STORE",
            ],
        ),
        ("list", ["List every version", "Directory with the models, or the URL", "PENUMBRA_STORE", "Print JSON"]),
        ("calibrate", ["--data", "--samples", "The weights stay as they are.", "the validation rows of its recipe"]),
        ("describe", ["by default its newest version", "NAME[/VERSION]", "PENUMBRA_STORE", "Print JSON"]),
    ],
)
def test_help_of_a_command(command, phrases):
    """A command's help explains its arguments and options, and names the variable that sets the store."""
    answer = Answer(command, "--help")
    assert answer.code == 0
    assert "--store" in answer.words
    for phrase in phrases:
        assert phrase in answer.words


def test_without_a_command():
    """Without a command the help is shown."""
    assert "Usage: python -m models" in Answer().words


@pytest.mark.slow
def test_as_a_module():
    """The shipped store is listed by `python -m models list`, run as a user runs it."""
    environment = {name: value for name, value in os.environ.items() if name != "PENUMBRA_STORE"}
    done = subprocess.run(
        [sys.executable, "-m", "models", "list", "--json"], cwd=ROOT, env=environment, check=True, capture_output=True
    )
    assert [line["name"] for line in json.loads(done.stdout)] == [
        "breast-cancer",
        "diabetes",
        "digits",
        "digits-ensemble",
        "mnist-ff",
    ]
    assert done.stderr == b""


# Calibrate


def rows_file(tmp_path, count=40):
    """Rows of linear data, as a user has them."""
    table = linear_data(count, noise=1.0)
    lines = [",".join(map(str, [*row, *target])) for row, target in zip(table.inputs, table.targets, strict=True)]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["x1,x2,x3,y", *lines]) + "\n")
    return path


@pytest.fixture
def lines(tmp_path):
    """A store with a model of lines, which no recipe made."""
    spec = Mlp(inputs=3, hidden=(4,), head=RegressionHead(variance=True))
    inputs = tuple(Feature(name=name, range=(-3.0, 3.0)) for name in ("x1", "x2", "x3"))
    outputs = (Target(name="y", mean=100.0, scale=20.0),)
    repository = Repository(tmp_path / "store")
    repository.publish(*version_of(spec, name="lines", inputs=inputs, outputs=outputs))
    return repository


def test_calibrate_with_a_file(lines, tmp_path):
    """Rows of a file make a new version, whose intervals hold for the samples that were asked for."""
    answer = Answer("calibrate", "lines", "--data", rows_file(tmp_path), "--samples", 20, "--store", lines.root)
    assert answer.code == 0
    assert answer.words.startswith("lines published as version 2 sha256:")
    assert "from 40 rows: temperature" in answer.words
    assert "for 20 samples" in answer.words
    assert lines.load("lines").manifest.calibration.conformal.samples == 20
    again = Answer("calibrate", "lines", "--data", rows_file(tmp_path), "--samples", 20, "--store", lines.root)
    assert again.words.startswith("lines not published, the same as version 2")
    assert lines.versions("lines") == ("1", "2")


def test_calibrate_with_a_recipe(kitchen, tmp_path):
    """Without a file the validation rows of the recipe are asked: as after training, but for other samples."""
    store = tmp_path / "store"
    assert Answer("train", "tiny", "--store", store).code == 0
    first = Repository(store).load(CLASSIFICATION.name).manifest
    name = CLASSIFICATION.name
    assert Answer("calibrate", name, "--store", store).words.startswith(f"{name} not published, the same as version 1")
    answer = Answer("calibrate", f"{name}/1", "--samples", 30, "--store", store)
    assert answer.words.startswith(f"{name} published as version 2")
    second = Repository(store).load(name).manifest
    assert second.weights_sha256 == first.weights_sha256
    assert second.calibration.conformal.samples == 30


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lines"], "lines was not made by a recipe: give rows that it was not trained with, --data FILE.csv"),
        (["nobody"], "no model 'nobody'"),
        (["lines/7"], "no version '7'"),
        (["lines", "--data", "nowhere.csv"], "nowhere.csv can't be read: No such file or directory"),
    ],
)
def test_calibrate_refuses(lines, words, message):
    """What can't be calibrated is told in a line, and nothing is published."""
    answer = Answer("calibrate", *words, "--store", lines.root)
    assert answer.code == 1
    assert message in answer.errors
    assert len(answer.errors.splitlines()) == 1
    assert lines.versions("lines") == ("1",)


# List


def test_list(store):
    """The list has a line for every version, from old to new, with the beginning of its digest."""
    answer = Answer("list", "--store", store.root)
    assert answer.code == 0
    header, *lines = [line.split() for line in answer.output.splitlines()]
    assert header == ["name", "version", "task", "inputs", "outputs", "parameters", "digest"]
    assert [line[:2] for line in lines] == [
        ["bone-density", "1"],
        ["net", "2"],
        ["net", "10"],
    ]
    digest = store.load("net", "2").manifest.digest.removeprefix("sha256:")
    assert lines[1][2:] == ["regression", "2", "1", "13", digest[:8]]


def test_list_cuts_nothing(store):
    """A name that is too long for its column goes on in the next line, and no other column is cut."""
    store.publish(*version_of(name="x" * 64))
    answer = Answer("list", "--store", store.root)
    assert answer.output.count("x") == 64
    assert "…" not in answer.output


def test_list_of_the_shipped_models_fits(monkeypatch):
    """Eighty columns hold the list of the shipped models, with nothing cut off."""
    monkeypatch.delenv("PENUMBRA_STORE", raising=False)
    answer = Answer("list")
    shipped = Repository(ROOT / "models" / "store")
    assert "…" not in answer.output
    for name in shipped.names():
        manifest = shipped.load(name).manifest
        (line,) = [line.split() for line in answer.output.splitlines() if line.split()[0] == name]
        assert line[1:3] == [manifest.version, manifest.task]
        assert line[-1] == manifest.digest.removeprefix("sha256:")[:8]


def test_list_as_json(store):
    """As JSON the list has whole digests."""
    lines = json.loads(Answer("list", "--json", "--store", store.root).output)
    assert lines[-1] == {
        "name": "net",
        "version": "10",
        "task": "regression",
        "inputs": 2,
        "outputs": 1,
        "parameters": 13,
        "digest": store.load("net", "10").manifest.digest,
    }


def test_store_from_the_environment(store):
    """PENUMBRA_STORE says which store is meant, and --store goes before it."""
    runner = CliRunner(env={"PENUMBRA_STORE": str(store.root)})
    assert len(json.loads(runner.invoke(app, ["list", "--json"]).stdout)) == 3
    assert json.loads(runner.invoke(app, ["list", "--json", "--store", str(store.root / "net")]).stdout) == []


def test_empty_store(tmp_path):
    """An empty store is no error: the list says so and how to fill it, and names a folder with brackets in full."""
    root = tmp_path / "[red]store[/]"
    answer = Answer("list", "--store", root)
    assert answer.code == 0
    assert answer.output.strip() == f"no models in {root}; train one: python -m models train all"
    assert json.loads(Answer("list", "--json", "--store", root).output) == []


def test_list_with_a_corrupt_version(store):
    """A corrupt version is listed as such with the reason, and the others as ever."""
    (store.root / "net" / "2" / WEIGHTS).write_bytes(b"")
    answer = Answer("list", "--store", store.root)
    assert answer.code == 0
    assert ["net", "2", "corrupt"] in [line.split() for line in answer.output.splitlines()]
    reason = "net/2: weights.safetensors is not the file that the manifest was made for"
    assert answer.errors == f"corrupt: {reason}\n"
    lines = json.loads(Answer("list", "--json", "--store", store.root).output)
    assert lines[1] == {"name": "net", "version": "2", "task": "corrupt", "error": reason}
    assert "digest" in lines[2]


# Describe


def test_describe(store):
    """A description has the words, the whole digest, every layer and the totals; brackets stay as they are."""
    answer = Answer("describe", "net", "--store", store.root)
    model = store.load("net", "10").manifest
    assert answer.code == 0
    assert answer.output.startswith("net version 10, regression\nBone density [g/cm²] by age.\n" + model.digest)
    lines = [line.split() for line in answer.output.splitlines()]
    for layer in describe_architecture(model.architecture).layers:
        assert any(line[:2] == [layer.name, *layer.kind.split()[:1]] for line in lines)
    assert ["hidden1.dropout", "dropout", "3", "3", "0.5"] in lines
    assert "13 parameters, 1 dropout site." in answer.words


def test_describe_a_version(store):
    """A version can be asked for after a slash; without one the newest is described."""
    assert Answer("describe", "net/2", "--store", store.root).output.startswith("net version 2,")
    assert Answer("describe", "net/10", "--store", store.root).output.startswith("net version 10,")


def test_describe_as_json(store):
    """As JSON a description is name, version, digest and the architecture's description."""
    manifest = store.load("net", "2").manifest
    found = json.loads(Answer("describe", "net/2", "--json", "--store", store.root).output)
    expected = {"name": "net", "version": "2", "digest": manifest.digest}
    assert found == expected | describe_architecture(manifest.architecture).as_json()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("nett", "no model 'nett' in {root}; there are: bone-density, net"),
        ("net/7", "no version '7' of 'net'; there are: 2, 10"),
        ("net/2/weights.safetensors", "no version '2/weights.safetensors' of 'net'; there are: 2, 10"),
        ("[red]net", "no model '[red]net' in {root}; there are: bone-density, net"),
        ("net/[/]", "no version '[/]' of 'net'; there are: 2, 10"),
        ("../net", "no model '..' in {root}; there are: bone-density, net"),
    ],
)
def test_describe_what_is_not_there(store, asked, message):
    """Who asks for what is not there is told what there is, in one line on the error stream, with exit code 1."""
    answer = Answer("describe", asked, "--store", store.root)
    assert (answer.code, answer.output) == (1, "")
    assert answer.errors == f"error: {message.format(root=store.root)}\n"


def test_describe_a_corrupt_version(store):
    """A corrupt version is not described: exit code 1, and the reason."""
    (store.root / "net" / "2" / WEIGHTS).unlink()
    answer = Answer("describe", "net/2", "--store", store.root)
    assert (answer.code, answer.output) == (1, "")
    assert answer.errors.startswith("error: net/2: No such file")


# Train


def test_train(kitchen, tmp_path):
    """Training publishes a version and prints its digest and its figures beside those of plain methods."""
    answer = Answer("train", "tiny", "--store", tmp_path)
    manifest = Repository(tmp_path).load("tiny").manifest
    assert answer.code == 0
    assert f"tiny published as version 1 {manifest.digest}" in answer.words
    assert "12 test rows accuracy" in answer.words
    assert "logistic regression" in answer.words


def test_train_again(kitchen, tmp_path):
    """Training the same recipe again publishes nothing: the version is there."""
    Answer("train", "tiny", "--store", tmp_path)
    answer = Answer("train", "tiny", "--store", tmp_path)
    assert answer.code == 0
    assert "tiny not published, the same as version 1" in answer.words
    assert Repository(tmp_path).versions("tiny") == ("1",)


def test_train_beside_a_corrupt_version(kitchen, tmp_path):
    """Training where the newest version is corrupt publishes the next one."""
    Answer("train", "tiny", "--store", tmp_path)
    (tmp_path / "tiny" / "1" / WEIGHTS).write_bytes(b"")
    assert "tiny published as version 2" in Answer("train", "tiny", "--store", tmp_path).words
    assert Repository(tmp_path).load("tiny").manifest.version == "2"


def test_train_that_diverges(kitchen, tmp_path):
    """Training that learns nothing publishes nothing: exit code 1, and the reason."""
    answer = Answer("train", "bad", "--store", tmp_path)
    assert answer.code == 1
    assert "error: bad: no epoch had a finite validation loss" in answer.errors
    assert Repository(tmp_path).names() == ()


def test_train_what_is_unknown(tmp_path):
    """A recipe that is not there is found out before any is trained, and those that are there are named."""
    answer = Answer("train", "digits", "nope", "--store", tmp_path / "store")
    assert answer.code == 1
    assert answer.errors == (
        "error: there is no recipe 'nope'; "
        "there are: breast-cancer, diabetes, digits, digits-ensemble, mnist-ff, or all of them: all; "
        "a table is a file that ends with .csv, .tsv, .txt or .parquet\n"
    )
    assert not (tmp_path / "store").exists()


def test_train_nothing():
    """Without a recipe's name the usage is shown, with exit code 2."""
    answer = Answer("train")
    assert answer.code == 2
    assert "Missing argument" in answer.errors


# Pins


def test_a_pin_is_set_and_taken_back(store):
    """It is a line of text in the store, which any editor could write."""
    answer = Answer("pin", "net/2", "--store", store.root)
    assert (answer.code, answer.words) == (0, "net is pinned to version 2")
    assert (store.root / "net" / "pinned").read_text() == "2\n"
    assert store.look()["net"].pinned == "2"
    assert Answer("list", "--store", store.root).words.endswith("net is pinned to version 2")
    answer = Answer("unpin", "net", "--store", store.root)
    assert (answer.code, answer.words) == (0, "the newest version of net is served by default")
    assert store.look()["net"].pinned is None
    assert Answer("unpin", "net", "--store", store.root).code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pin", "net"), "which version? Say NAME/VERSION"),
        (("pin", "net/3"), "no version '3' of 'net'; there are: 2, 10"),
        (("pin", "none/1"), "no model 'none' in"),
        (("pin", "../net/1"), "no model '..' in"),
        (("unpin", "none"), "no model 'none' in"),
    ],
)
def test_what_can_not_be_pinned_is_told(store, words, message):
    """In a line, with what there is; the store is as it was."""
    answer = Answer(*words, "--store", store.root)
    assert answer.code == 1
    assert message in answer.errors
    assert answer.errors.count("\n") == 1
    assert not list(store.root.rglob("*pinned*"))


def test_a_damaged_version_is_not_pinned(store):
    """It would not be served."""
    (store.root / "net" / "2" / WEIGHTS).write_bytes(b"")
    answer = Answer("pin", "net/2", "--store", store.root)
    assert answer.code == 1
    assert "net/2: weights.safetensors is not the file that the manifest was made for" in answer.errors


@pytest.mark.parametrize("text", ["", "\n", "no such thing", "../1", "x" * 200, "\xff"])
def test_a_pin_that_names_nothing_is_none(store, text):
    """What is half written, or written by hand and mistyped."""
    (store.root / "net" / "pinned").write_bytes(text.encode("latin-1"))
    assert store.look()["net"].pinned is None


def test_a_url_of_an_unknown_kind_is_no_directory(tmp_path, monkeypatch):
    """It is told which kinds there are, and nothing is made on the disk."""
    monkeypatch.chdir(tmp_path)
    answer = Answer("list", "--store", "ftp://canary/models")
    assert answer.code == 1
    assert "not a store's URL; these begin with one of s3://, gs://" in answer.errors
    assert not list(tmp_path.iterdir())
