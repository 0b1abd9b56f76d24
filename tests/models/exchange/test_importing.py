"""Networks from PyTorch: what is derived, what must agree, and what is refused; files never run code."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from typer.testing import CliRunner

from models.__main__ import app
from models.architecture import ClassificationHead, FfStack, RegressionHead
from models.exchange.files import ImportRefused
from models.exchange.importing import AGREEMENT, Spec, import_file
from models.exchange.stack import PublishedStack
from models.repository import Repository
from tests.models.examples import SMALL, module_of

ACTIVATIONS = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.ELU, nn.LeakyReLU)


def random_sequential(seed):
    """An nn.Sequential of a random shape, its statistics away from their initial values."""
    rng = np.random.default_rng(seed)
    torch.default_generator.manual_seed(seed)
    widths = [int(width) for width in rng.integers(2, 40, rng.integers(2, 5))]
    activation, norm = ACTIVATIONS[seed % len(ACTIVATIONS)], seed % 3
    layers = [nn.Flatten()] if seed % 2 else []
    for before, width in pairwise(widths):
        layers.append(nn.Linear(before, width, bias=seed % 4 != 1))
        if norm:
            layers.append(nn.BatchNorm1d(width, eps=1e-3, affine=seed % 4 != 2) if norm == 1 else nn.LayerNorm(width))
        layers.append(activation())
        layers.append(nn.Dropout(float(rng.uniform(0, 0.6))))
    module = nn.Sequential(nn.Sequential(*layers), nn.Linear(widths[-1], 3))
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2.0)
    return module


@pytest.mark.parametrize("seed", range(10))
def test_random_networks_agree(seed, tmp_path):
    """Ten random networks answer as they did before, to 1e-6, and keep every p."""
    with torch.random.fork_rng(devices=[]):
        module = random_sequential(seed)
    path = tmp_path / "net.pt"
    torch.save(module, path)
    imported = import_file(path, Spec(head=ClassificationHead(classes=3)), "net", "1")
    assert imported.apart is not None
    assert imported.apart <= AGREEMENT
    assert list(imported.manifest.architecture.dropout) == [m.p for m in module.modules() if isinstance(m, nn.Dropout)]
    # What was published is compared here once more, in the precision that is served.
    Repository(tmp_path / "store").publish(imported.manifest, imported.weights)
    model = Repository(tmp_path / "store").load("net")
    ours = module_of(model.manifest.architecture)
    ours.load_state_dict(dict(model.tensors))
    rows = torch.randn(50, model.manifest.architecture.inputs, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours(rows), module.eval()(rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_state_dict_with_other_names(ordered, tmp_path):
    """Modules are matched in order, 2 before 10 where the file has no order, and examples are compared."""
    spec = SMALL.model_copy(update={"hidden": (3,) * 11, "dropout": (0.1,) * 11})
    module = module_of(spec)
    linears = [part for part in module.modules() if isinstance(part, nn.Linear)]
    tensors = {f"layers.{i}.{name}": t for i, part in enumerate(linears) for name, t in part.state_dict().items()}
    path = tmp_path / ("net.pt" if ordered else "net.safetensors")
    torch.save({"state_dict": tensors}, path) if ordered else safetensors.torch.save_file(tensors, path)
    with torch.no_grad():
        examples = {"inputs": [[1.0, -2.0]], "outputs": module(torch.tensor([[1.0, -2.0]])).tolist()}
    asked = Spec.model_validate({"architecture": spec.model_dump(), "examples": examples})
    imported = import_file(path, asked, "net", "1")
    assert imported.apart is not None
    found = safetensors.torch.load(imported.weights)
    assert found.keys() == module.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in module.state_dict().items())
    assert import_file(path, asked.model_copy(update={"examples": None}), "net", "1").apart is None
    wrong = asked.model_copy(update={"examples": asked.examples.model_copy(update={"outputs": [[1e3]]})})
    with pytest.raises(ImportRefused, match="does not answer as the original does"):
        import_file(path, wrong, "net", "1")


@pytest.mark.parametrize("plain_positions", [False, True])
def test_a_published_stack(plain_positions, tmp_path):
    """A synthetic checkpoint in the published layout answers as its own network does, positions resampled or not."""
    spec = FfStack(
        image=(8, 4, 3), patch=2, dim=12, depth=2, dropout=0.1, position_dropout=0.1,
        positions=None if plain_positions else (3, 3), head=ClassificationHead(classes=5),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        tensors = PublishedStack(spec).state_dict()
    if plain_positions:
        places = tensors.pop("pos_encoding.pos_embed").flatten(2).mT
        tensors["pos_embed"] = torch.cat((tensors.pop("pos_encoding.cls_pos_embed"), places), dim=1)
    path = tmp_path / "stack.pth"
    torch.save({"model": tensors}, path)
    asked = Spec(head=spec.head, image=(8, 4), dropout=0.1)
    imported = import_file(path, asked, "stack", "1")
    assert imported.apart is not None
    assert imported.apart <= AGREEMENT
    assert imported.manifest.architecture == spec
    assert len(imported.manifest.inputs) == 8 * 4 * 3


class _Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("wrap", [lambda it: it, lambda it: {"state_dict": it}, lambda it: {"a.weight": it}])
def test_a_file_that_runs_code_is_refused(wrap, tmp_path):
    """The command in the file is named and not run."""
    canary, path = tmp_path / "canary", tmp_path / "net.pt"
    torch.save(wrap(_Hostile(canary)), path)
    with pytest.raises(ImportRefused, match=r"posix.system, which is neither a tensor nor a plain layer"):
        import_file(path, Spec(head=RegressionHead()), "net", "1")
    assert not canary.exists()
    torch.load(path, weights_only=False)  # it would have been
    assert canary.exists()


FOREIGN = {
    "text.csv": b"a,b\n1,2\n",
    "text that looks like a pickle's GLOBAL": b"city,price\nBerlin,1\n",
    "empty": b"",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(50),
    "half an archive": b"PK\x03\x04 nonsense",
    "a pickle that ends early": b"\x80\x02",
    "a pickle of nothing": b"\x80\x02.",
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_file_of_something_else_is_refused_in_a_line(content, tmp_path):
    """Whatever way the reader stumbles over foreign bytes, the user is told the same."""
    path = tmp_path / "net.pt"
    path.write_bytes(content)
    code, told, failed = command("import", path, "--name", "mine", "--classes", 3, "--store", tmp_path / "store")
    assert (code, told) == (1, "")
    assert failed == f"error: {path} is not a file that PyTorch wrote\n"


# ruff: noqa: E501
REFUSED = [
    (nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2), nn.Softmax(1)), "asks for torch.nn.modules.activation.Softmax"),
    (nn.Sequential(nn.Linear(2, 3), nn.ReLU()), "the last layer must be linear and is ReLU"),
    (nn.Sequential(nn.Linear(2, 3)), "at least one hidden layer"),
    (nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3)), "no activation"),
    (nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.BatchNorm1d(3), nn.Linear(3, 3)), r"layer 2 \(BatchNorm1d\) stands where"),
    (nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)), "the same activation"),
    (nn.Sequential(nn.Linear(2, 3), nn.GELU("tanh"), nn.Linear(3, 3)), r"layer 1 \(GELU\) stands where"),
    (nn.Sequential(nn.ReLU(), nn.Linear(2, 3), nn.Linear(3, 3)), "comes before the first linear layer"),
    (nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3, eps=1e-3), nn.ReLU(), nn.Linear(3, 3)), "LayerNorm has eps 0.001"),
    (nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 7)), "the last layer has 7 outputs, and the head needs 3"),
    ({"a": 1}, "holds neither a state_dict nor an nn.Sequential"),
    ({"a.weight": torch.zeros(2, 2)}, "say which network they are of"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_can_not_be_a_spec(content, message, tmp_path):
    """What no spec can express is refused, naming the layer."""
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(ImportRefused, match=message):
        import_file(tmp_path / "net.pt", Spec(head=ClassificationHead(classes=3)), "net", "1")


def command(*words):
    """What a command printed, and its exit code."""
    result = CliRunner().invoke(app, [str(word) for word in words], prog_name="python -m models")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, click.unstyle(result.stdout), click.unstyle(result.stderr)


def test_the_command(tmp_path):
    """Import publishes and says how far apart; mistakes are told in one line."""
    net, store, spec = tmp_path / "net.pt", ["--store", tmp_path / "store"], tmp_path / "spec.json"
    torch.save(random_sequential(1), net)
    code, told, _ = command("import", net, "--name", "mine", "--classes", 3, *store)
    assert code == 0
    assert "mine published as version 1" in told
    assert "outputs differ from the original's by at most" in told
    spec.write_text(json.dumps({"heads": 1}))
    (tmp_path / "not.pt").write_bytes(b"PK nonsense")
    for words, message in (
        ((net, "--name", "mine"), "a file does not say what its outputs mean"),
        ((net, "--name", "../mine", "--classes", 3), "'../mine' can't be a name"),
        ((net, "--name", "mine", "--classes", 3, "--outputs", 1), "--classes and --outputs are for different tasks"),
        ((tmp_path / "nope.pt", "--name", "mine", "--classes", 3), "can't be read: No such file"),
        ((tmp_path / "not.pt", "--name", "mine", "--classes", 3), "not.pt"),
        ((net, "--name", "mine", "--spec", spec), "heads Extra inputs are not permitted"),
    ):
        code, told, failed = command("import", *words, *store)
        assert (code, told) == (1, ""), words
        assert failed.startswith("error: ")
        assert message in failed
    assert Repository(Path(tmp_path / "store")).versions("mine") == ("1",)
