"""Descriptions: counts worked out by hand, and totals that agree with their lines."""

from __future__ import annotations

import json

from hypothesis import given

from models.architecture import ClassificationHead, Mlp, RegressionHead
from models.description import LayerLine, describe_architecture
from models.networks import build
from tests.models.examples import specs


def test_lines():
    """A description has one line for each layer, in order of evaluation, blocks before what they hold."""
    spec = Mlp(inputs=3, hidden=(4,), norm="batch", dropout=0.5, head=ClassificationHead(classes=2))
    assert describe_architecture(spec).layers == (
        LayerLine("hidden1", "block", None, None, 0, None),
        LayerLine("hidden1.linear", "linear", 3, 4, 3 * 4 + 4, None),
        LayerLine("hidden1.norm", "batch norm", 4, 4, 2 * 4, None),
        LayerLine("hidden1.activation", "relu", 4, 4, 0, None),
        LayerLine("hidden1.dropout", "dropout", 4, 4, 0, 0.5),
        LayerLine("head", "linear", 4, 2, 4 * 2 + 2, None),
    )


def test_costs_by_hand():
    """A row costs two operations a weight and one a unit; a sample costs what lies after the first active dropout."""
    description = describe_architecture(Mlp(inputs=3, hidden=(4, 5), dropout=(0.0, 0.5), head=RegressionHead()))
    first, second, head = 2 * 3 * 4 + 4 + 4, 2 * 4 * 5 + 5 + 5, 2 * 5 * 1
    assert description.flops_per_row == first + second + head
    assert description.flops_per_sample == 5 + head
    assert description.parameters == (3 * 4 + 4) + (4 * 5 + 5) + (5 * 1 + 1)


def test_residual_addition_is_part_of_a_sample():
    """The addition of a residual block comes after its dropout, so every sample pays for it."""
    description = describe_architecture(Mlp(inputs=4, hidden=(4,), residual=True, head=RegressionHead()))
    dropout, addition, head = 4, 4, 2 * 4
    assert description.flops_per_sample == dropout + addition + head
    assert description.flops_per_row == 2 * 4 * 4 + 4 + dropout + addition + head


def test_layer_norm_costs_and_batch_norm_does_not():
    """Batch normalisation is folded into the layer before it; layer normalisation takes seven operations a unit."""
    plain, batch, layer = (
        describe_architecture(Mlp(inputs=3, hidden=(4,), norm=norm, head=RegressionHead())).flops_per_row
        for norm in ("none", "batch", "layer")
    )
    assert (batch - plain, layer - plain) == (0, 7 * 4)


def test_without_active_dropout_samples_are_free():
    """Where no p is above 0 all samples are the full network, evaluated once."""
    description = describe_architecture(Mlp(inputs=3, hidden=(4, 5), dropout=0.0, head=RegressionHead()))
    assert description.flops_per_sample == 0
    assert len(description.sites) == 2


@given(specs())
def test_sample_costs_at_most_a_row(spec):
    """A sample costs at most a row, and exactly a row where the inputs are dropped."""
    description = describe_architecture(spec)
    assert description.flops_per_sample <= description.flops_per_row
    if getattr(spec, "input_dropout", 0) > 0:
        assert description.flops_per_sample == description.flops_per_row


@given(specs())
def test_lines_are_the_modules(spec):
    """The lines are the modules that `build` makes: same names in the same order, same number of parameters."""
    modules = {name: module for name, module in build(spec).named_modules() if name}
    lines = describe_architecture(spec).layers
    assert [line.name for line in lines] == list(modules)
    for line in lines:
        own = modules[line.name].parameters(recurse=False)
        assert line.parameters == sum(parameter.numel() for parameter in own)


@given(specs())
def test_json(spec):
    """The JSON form is plain: it survives a round trip and holds every line, site and total."""
    description = describe_architecture(spec)
    found = json.loads(json.dumps(description.as_json()))
    assert found == description.as_json()
    assert found["parameters"] == sum(layer["parameters"] for layer in found["layers"])
    assert [site["p"] for site in found["dropout_sites"]] == [site.p for site in description.sites]
