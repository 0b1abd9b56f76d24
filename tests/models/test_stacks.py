"""Feed-forward stacks: the parameters that were published, the forward pass written down again, and what is refused."""

from __future__ import annotations

import json

import click
import pytest
import torch
from hypothesis import given, settings
from pydantic import ValidationError
from typer.testing import CliRunner

from models.__main__ import app
from models.architecture import ClassificationHead, FfStack, published_stack
from models.exchange.stack import PublishedStack, stack_of
from models.layers import dropout_sites
from models.networks import meta_parameters
from tests.models.examples import module_of, stacks

PUBLISHED = {"tiny": 7_676_332, "base": 61_943_020, "large": 206_363_576}
SPEC = {"image": (4, 4), "patch": 2, "dim": 3, "depth": 2, "head": ClassificationHead(classes=2)}


@pytest.mark.parametrize(("size", "parameters"), PUBLISHED.items())
def test_parameters_are_those_that_were_published(size, parameters):
    """The command counts them, on the meta device and from the spec alone."""
    result = CliRunner().invoke(app, ["describe", "ff_stack", "--size", size, "--json"])
    found = json.loads(click.unstyle(result.stdout))
    assert found["parameters"] == found["built_parameters"] == parameters
    assert meta_parameters(published_stack(size)) == parameters


@settings(max_examples=25)
@given(stacks())
def test_forward_by_hand(spec):
    """A stack computes what the published network computes, from images as convolutions have them."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        published = PublishedStack(spec).double().eval()
    derived, tensors = stack_of(published.state_dict(), spec.head, image=spec.image[:2])
    assert (derived.grid, derived.ratio, derived.depth) == (spec.grid, spec.ratio, spec.depth)
    module = module_of(spec)
    module.load_state_dict(tensors)
    rows = torch.randn(3, spec.inputs, generator=torch.Generator().manual_seed(1)).double()
    images = rows.view(3, *spec.image[:2], spec.channels).permute(0, 3, 1, 2)
    with torch.no_grad():
        torch.testing.assert_close(module.double()(rows), published(images), rtol=1e-5, atol=1e-6)


def test_sites():
    """The position site and four a block, each as wide as what it drops: tokens × features, features × tokens."""
    spec = FfStack(**SPEC, dropout=(0.1, 0.2), position_dropout=0.3)
    tokens, dim = 5, 3
    block = [tokens * 4 * dim, tokens * dim, dim * 4 * tokens, dim * tokens]
    assert [site.width for site in dropout_sites(spec.layers())] == [tokens * dim, *block, *block]
    assert [site.p for site in dropout_sites(spec.layers())] == [0.3, *[0.1] * 4, *[0.2] * 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch": 3}, "patches of 3 do not fill an image of 4 × 4"),
        ({"dropout": (0.1,)}, "dropout has 1 probabilities for 2 blocks"),
        ({"dropout": 1.5}, "less than or equal to 1"),
        ({"depth": 0}, "greater than or equal to 1"),
        ({"image": (4,)}, "Field required|at least 2|Tuple"),
    ],
)
def test_specs_that_are_refused(changes, message):
    """Shapes that do not fit are refused in words."""
    with pytest.raises(ValidationError, match=message):
        FfStack(**(SPEC | changes))
