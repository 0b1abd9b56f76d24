"""The UCI benchmark: tables are read as published, stacks train the networks they say, test targets are never seen."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm

from benchmarks.uci import procedure, report
from benchmarks.uci.asking import Told
from benchmarks.uci.procedure import SAMPLES, learn
from benchmarks.uci.protocol import read
from benchmarks.uci.scores import pooled, score, summary
from benchmarks.uci.stack import Plan, Settings, Stack, split_head
from benchmarks.uci.tables import Table, Unreadable, tables
from models.architecture import Mlp, RegressionHead
from models.networks import build, expected_tensors

ROOT = Path(__file__).parents[2]
ROWS = 60


def write_set(folder: Path, name: str = "lines", splits: int = 2, spoilt: tuple[int, ...] = ()) -> Path:
    """A set of noisy lines as published ones lie; the targets of `spoilt` rows are nonsense."""
    rng = np.random.Generator(np.random.PCG64(0))
    x = rng.standard_normal((ROWS, 2))
    y = 3.0 * x[:, 0] - x[:, 1] + 0.5 * rng.standard_normal(ROWS)
    y[list(spoilt)] = 1e6
    home = folder / name
    home.mkdir(parents=True)
    np.savetxt(home / "data.txt", np.column_stack([x[:, 1], y, x[:, 0]]))
    (home / "index_features.txt").write_text("2\n0\n")
    (home / "index_target.txt").write_text("1\n")
    (home / "n_splits.txt").write_text(f"{splits}\n")
    for split in range(splits):
        order = rng.permutation(ROWS)
        np.savetxt(home / f"index_train_{split}.txt", order[: ROWS * 9 // 10], fmt="%d")
        np.savetxt(home / f"index_test_{split}.txt", order[ROWS * 9 // 10 :], fmt="%d")
    return folder


# Tables


def test_a_table_is_read_by_its_indices(tmp_path):
    """Columns and rows are those that the index files name, in their order."""
    table = Table(write_set(tmp_path) / "lines")
    data = np.loadtxt(table.folder / "data.txt")
    train, test = (np.loadtxt(table.folder / f"index_{part}_1.txt").astype(int) for part in ("train", "test"))
    lesson = table.lesson(1)
    np.testing.assert_array_equal(lesson.inputs, data[train][:, [2, 0]])
    np.testing.assert_array_equal(lesson.targets, data[train][:, [1]])
    np.testing.assert_array_equal(table.questions(1), data[test][:, [2, 0]])
    np.testing.assert_array_equal(table.answers(1), data[test][:, [1]])
    assert table.splits == 2
    assert [one.name for one in tables(tmp_path)] == ["lines"]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("data.txt", "1 2 3\n4 five 6\n", "could not convert string"),
        ("data.txt", "1 2 3\n4 nan 6\n", "must hold numbers, all finite"),
        ("data.txt", "", "must hold numbers, all finite"),
        ("index_features.txt", "2\n7\n", "must hold whole numbers from 0 to 2"),
        ("index_train_0.txt", "0.5\n", "must hold whole numbers from 0 to 59"),
        ("index_train_0.txt", None, "No such file"),
    ],
)
def test_a_table_that_is_not_laid_out_so(tmp_path, file, text, message):
    """The message names the file and what is wrong with it."""
    home = write_set(tmp_path) / "lines"
    (home / file).unlink() if text is None else (home / file).write_text(text)
    with pytest.raises(Unreadable, match=message) as told:
        Table(home).lesson(0)
    assert str(home / file) in str(told.value)


def test_unknown_sets(tmp_path):
    """A folder without sets, and a set that it does not have, are told."""
    with pytest.raises(Unreadable, match=r"has no folder with an n_splits\.txt"):
        tables(tmp_path)
    with pytest.raises(Unreadable, match="no set 'naval'; there are: lines"):
        tables(write_set(tmp_path), ("naval",))


# Stacks


def stack_of(networks=3, p=0.2, decay=0.0, steps=40, seed=0):
    """A stack of small networks."""
    plan = Plan((2, 5, 5, 2), steps, 8)
    settings = Settings(torch.full((networks,), p), torch.full((networks,), decay), torch.arange(networks) % 2 > 0)
    return Stack(plan, settings, torch.Generator().manual_seed(seed))


def lines(rows=64):
    """Rows and targets in standard units."""
    rows = torch.randn(rows, 2, generator=torch.Generator().manual_seed(1))
    return rows, rows @ torch.tensor([[0.9], [-0.4]])


def test_a_stack_is_the_networks_it_says():
    """Each network's state dict, loaded into the module of its spec, gives the stack's outputs."""
    stack, (rows, targets) = stack_of(), lines()
    stack.advance(rows, targets, torch.arange(64).expand(3, -1), 40)
    outputs = stack.outputs(stack.averaged, rows.expand(3, -1, -1), dropout=False)
    for place in range(3):
        activation = "silu" if stack.settings.silu[place] else "relu"
        spec = Mlp(inputs=2, hidden=(5, 5), activation=activation, dropout=0.2, head=RegressionHead(variance=True))
        state = stack.state_dict(place)
        assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
            name: shape for name, (_, shape) in expected_tensors(spec).items()
        }
        module = build(spec).eval()
        module.load_state_dict(state)
        torch.testing.assert_close(module(rows), outputs[place])


def test_networks_learn():
    """A line is learnt: the loss of the averaged networks falls far below that of their mean."""
    stack, (rows, targets) = stack_of(p=0.01, steps=400), lines()
    stack.advance(rows, targets, torch.arange(64).expand(3, -1), 400)
    mean, _ = split_head(stack.outputs(stack.averaged, rows.expand(3, -1, -1), dropout=False))
    assert ((mean - targets) ** 2).mean() < 0.1 * targets.var()


def test_networks_see_their_own_rows_alone():
    """What lies in rows that a network does not own changes it in no bit, nor in rows that are padding."""
    rows, targets = lines()
    own = torch.stack([torch.arange(0, 40), torch.cat([torch.arange(20, 50), torch.full((10,), -1)])])
    states = []
    for spoil in (0.0, 1e3):
        stack = stack_of(networks=2)
        changed = targets.clone()
        changed[50:] += spoil
        changed[:20] += torch.tensor([[spoil]])
        stack.advance(rows, changed, own, 30)
        states.append([stack.state_dict(place) for place in range(2)])
    (first, second), (other_first, other_second) = states
    assert all(torch.equal(second[name], other_second[name]) for name in second)
    assert not all(torch.equal(first[name], other_first[name]) for name in first)


def test_keeping_some_networks():
    """Those that are kept go on as they were."""
    stack, (rows, targets) = stack_of(networks=4), lines()
    stack.advance(rows, targets, torch.arange(64).expand(4, -1), 10)
    before = [stack.state_dict(place) for place in range(4)]
    stack.keep(torch.tensor([2, 0]))
    assert all(torch.equal(stack.state_dict(0)[name], before[2][name]) for name in before[2])
    assert all(torch.equal(stack.state_dict(1)[name], before[0][name]) for name in before[0])
    stack.advance(rows, targets, torch.arange(64).expand(2, -1), 10)
    assert stack.steps == 20


@pytest.mark.parametrize("p", [0.002, 0.3])
def test_masks_keep_as_many_units_as_they_should(p):
    """The keep rate is 1 − p to five deviations, and what is kept is scaled by 1 / (1 − p)."""
    masks = stack_of(networks=2, p=p).tape.masks(torch.full((2,), p), torch.Size((2, 1000, 500)))
    kept = (masks > 0).double().mean().item()
    assert abs(kept - (1 - p)) < 5 * math.sqrt(p * (1 - p) / 1e6)
    assert set(masks.unique().tolist()) == {0.0, float(torch.tensor(1.0) / (1.0 - torch.tensor(p)))}


# The procedure


def test_the_same_lesson_gives_the_same_version(tmp_path):
    """A split's version is decided by its training rows and seed."""
    lesson = Table(write_set(tmp_path) / "lines").lesson(0)
    first, second = (learn(lesson, "lines-0", seed=4, steps=40) for _ in range(2))
    assert first.manifest == second.manifest
    assert first.weights == second.weights
    assert first.manifest.calibration.conformal_ensemble.rows == len(lesson.inputs)
    assert first.manifest.calibration.conformal_ensemble.samples == SAMPLES


def test_test_targets_are_not_looked_at(tmp_path):
    """Nonsense for test targets changes neither the version nor the questions, only the answers."""
    home = write_set(tmp_path / "plain") / "lines"
    test = tuple(np.loadtxt(home / "index_test_0.txt").astype(int).tolist())
    spoilt = write_set(tmp_path / "spoilt", spoilt=test) / "lines"
    made = [learn(Table(each).lesson(0), "lines-0", seed=0, steps=40).manifest.digest for each in (home, spoilt)]
    assert made[0] == made[1]
    np.testing.assert_array_equal(Table(home).questions(0), Table(spoilt).questions(0))
    assert (Table(spoilt).answers(0) == 1e6).all()


def test_a_network_that_diverged_is_the_worst():
    """It never wins the search: NaN counts as minus infinity."""
    stack, (rows, targets) = stack_of(networks=2), lines()
    stack.averaged.biases[0][1] = math.nan
    found = procedure._log_likelihoods(stack, rows, targets)
    assert found[1] == -math.inf
    assert found[0].isfinite()


# Scores


def test_scores():
    """Errors, densities and shares, worked out for two rows and two samples."""
    told = Told(
        mean=np.array([[1.0], [2.0]]),
        means=np.array([[[0.0], [2.0]], [[2.0], [2.0]]]),
        stds=np.array([[[1.0], [1.0]], [[2.0], [1.0]]]),
        kind="conformal",
        interval=(np.array([[0.0], [5.0]]), np.array([[2.0], [7.0]])),
        quantiles=(np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]])),
    )
    found = score(np.array([[2.0], [2.0]]), told, 3, {"p": 0.1}, 1.5)
    assert found.rmse == pytest.approx(math.sqrt(0.5))
    first = math.log((norm.pdf(2.0) + norm.pdf(0.0) / 2) / 2)
    assert found.ll == pytest.approx((first + norm.logpdf(0.0)) / 2)
    assert (found.coverage90, found.predictive90, found.width90) == (0.5, 1.0, 2.0)
    other = found.model_copy(update={"split": 4, "rows": 6, "rmse": 2.0, "ll": found.ll, "coverage90": 1.0})
    told_of_both = summary([found, other])
    assert told_of_both["rmse"] == pytest.approx((math.sqrt(0.5) + 2.0) / 2)
    assert told_of_both["rmse_se"] == pytest.approx((2.0 - math.sqrt(0.5)) / 2 / math.sqrt(2))
    assert told_of_both["coverage90"] == pooled([found, other], "coverage90") == pytest.approx(7 / 8)
    assert (told_of_both["splits"], told_of_both["seconds"], told_of_both["ll_se"]) == (2, 3.0, 0.0)


# The command


def command(*words):
    """Runs it as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.uci", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_from_folder_to_scores_and_on(tmp_path):
    """A folder is worked off over HTTP and written; what is done is not done again; the section is made of it."""
    data, out = write_set(tmp_path / "data"), tmp_path / "results.json"
    first = command("--data", data, "--out", out, "--splits", 1, "--steps", 20)
    assert first.returncode == 0, first.stderr
    results = read(out)
    assert {"rmse", "rmse_se", "ll", "ll_se", "coverage90", "splits", "seconds"} <= results["lines"].keys()
    assert results["lines"]["splits"] == 1
    assert results["lines"]["each"][0]["kind"] == "conformal"
    assert 0.0 < results["lines"]["rmse"] < 10.0
    second = command("--data", data, "--out", out, "--sets", "lines", "--steps", 20)
    assert second.returncode == 0, second.stderr
    again = read(out)
    assert again["lines"]["each"][0] == results["lines"]["each"][0]
    assert [one["split"] for one in again["lines"]["each"]] == [0, 1]
    text = report.section(again)
    assert "| lines | 2 |" in text
    assert "✓" not in text.partition("### Log-likelihood")[2]  # nothing is published about it


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nowhere"], "error: nowhere has no folder with an n_splits.txt"),
        (["--data", "nowhere", "--splits", "0"], "must be 1 or more"),
    ],
)
def test_mistakes_on_the_command_line(tmp_path, words, message):
    """They are told in a line."""
    done = command(*words, "--out", tmp_path / "results.json")
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_results_that_can_not_be_continued(tmp_path):
    """A file of something else is not written over."""
    out = tmp_path / "results.json"
    out.write_text(json.dumps({"lines": 7}))
    done = command("--data", write_set(tmp_path / "data"), "--out", out)
    assert "can't be continued" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(out.read_text()) == {"lines": 7}
