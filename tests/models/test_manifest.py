"""Manifests: which parts must agree, and what a digest does and does not depend on."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from pydantic import ValidationError

from models.architecture import ClassificationHead, Mlp, RegressionHead
from models.calibration import Calibration, Conformal
from models.features import ClassLabel, Feature, Target
from models.layers import dropout_sites
from models.manifest import ANSWERING_PARTS, Distribution, Manifest, Member, ValidationUncertainty, answer_digest
from tests.models.examples import SMALL, sealed, specs

X = Feature(name="x", range=(-1.0, 1.0))
Y = Target(name="y", mean=0.0, scale=1.0)
ONE = Mlp(inputs=1, hidden=(2,), dropout=0.5, head=RegressionHead())
TWO_CLASSES = Mlp(inputs=1, hidden=(2,), head=ClassificationHead(classes=2))
HELD = Calibration(
    conformal=Conformal(samples=100, dropout=(0.5,), rows=30, levels=(0.1, 0.5, 0.9), quantiles=((0.1, 1 / 3, None),))
)
BASE = {"inputs": (X,), "outputs": (Y,), "architecture": ONE}
NOTES = {
    "name": "other",
    "version": "2",
    "description": "What it is for.",
    "metrics": {"test": {"rmse": 1.0}},
    "provenance": {"recipe": "net"},
    "uncertainty": ValidationUncertainty(
        samples=100,
        values=40,
        distributions={"epistemic_std": Distribution(edges=(0.1, 0.2), shares=(0.5, 0.25, 0.25))},
    ),
}

CANONICAL = (
    '{"architecture":{"activation":"relu","dropout":[0.5],"head":{"kind":"regression","outputs":1,"variance":false},'
    '"hidden":[2],"inplace":false,"input_dropout":0.0,"inputs":1,"kind":"mlp","norm":"none","residual":false},'
    '"calibration":{},"default_samples":100,'
    '"inputs":[{"kind":"number","mean":0.0,"name":"x","range":[-1.0,1.0],"scale":1.0,"units":null}],'
    '"noise_variance":null,"outputs":[{"mean":0.0,"name":"y","scale":1.0,"units":null}],"task":"regression",'
    '"weights_sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}'
)


def test_digest_in_full():
    """A digest is the SHA-256 of the canonical JSON of the answering parts, spelt out here."""
    expected = "sha256:" + hashlib.sha256(CANONICAL.encode()).hexdigest()
    assert sealed(**BASE, **NOTES).digest == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"weights_sha256": "0" * 64},
        {"inputs": (X.model_copy(update={"name": "z"}),)},
        {"inputs": (X.model_copy(update={"units": "m"}),)},
        {"inputs": (X.model_copy(update={"range": (-1.0, 2.0)}),)},
        {"inputs": (X.model_copy(update={"mean": 5e-324}),)},
        {"inputs": (X.model_copy(update={"scale": 1.0000000000000002}),)},
        {"outputs": (Y.model_copy(update={"name": "z"}),)},
        {"outputs": (Y.model_copy(update={"units": "m"}),)},
        {"outputs": (Y.model_copy(update={"mean": 0.1}),)},
        {"outputs": (Y.model_copy(update={"scale": 2.0}),)},
        {"architecture": ONE.model_copy(update={"dropout": (0.25,)})},
        {"architecture": ONE.model_copy(update={"activation": "tanh"})},
        {"architecture": ONE.model_copy(update={"head": RegressionHead(variance=True)})},
        {
            "task": "classification",
            "outputs": (ClassLabel(name="a"), ClassLabel(name="b")),
            "architecture": TWO_CLASSES,
        },
        {"noise_variance": (1.0,)},
        {"members": (Member(weight=0.5), Member(weight=0.5))},
        {"default_samples": 101},
    ],
    ids=str,
)
def test_answers_change_the_digest(changes):
    """A change of any part that affects answers changes the digest."""
    assert sealed(**(BASE | changes)).digest != sealed(**BASE).digest


@pytest.mark.parametrize("part", NOTES)
def test_notes_keep_the_digest(part):
    """Name, version, metrics, description and provenance do not change the digest."""
    assert sealed(**BASE, **{part: NOTES[part]}).digest == sealed(**BASE).digest


def test_every_part_is_one_or_the_other():
    """Every field of a manifest either affects answers or is known not to; the digest itself is neither."""
    assert {*ANSWERING_PARTS, *NOTES, "digest"} == set(Manifest.model_fields)
    assert not {*ANSWERING_PARTS} & {*NOTES}


def test_order_of_keys():
    """The digest does not depend on the order in which a manifest's parts, or a calibration's, are written."""
    plain = sealed(**BASE, calibration=HELD).model_dump(mode="json")
    turned = dict(reversed(plain.items()))
    turned["calibration"] = {"conformal": dict(reversed(plain["calibration"]["conformal"].items()))}
    assert answer_digest(turned) == answer_digest(plain)


@given(specs())
def test_json_loses_nothing(spec):
    """A manifest is equal to what its JSON is read back to, and still calls for the same digest."""
    lists = spec.head.outputs if isinstance(spec.head, RegressionHead) else 1
    sites = tuple(site.p for site in dropout_sites(spec.layers()))
    quantiles = HELD.conformal.model_copy(update={"dropout": sites, "quantiles": HELD.conformal.quantiles * lists})
    manifest = sealed(spec, calibration=Calibration(conformal=quantiles), metrics={"test": {"rmse": 0.1}})
    found = Manifest.model_validate_json(manifest.model_dump_json(indent=2))
    assert found == manifest
    assert found.computed_digest() == manifest.digest


def test_names_in_any_script():
    """Names of columns in any script survive JSON, and the digest is that of their UTF-8."""
    manifest = sealed(**(BASE | {"inputs": (X.model_copy(update={"name": "größe 高さ 🦉"}),)}))
    assert Manifest.model_validate_json(manifest.model_dump_json()).computed_digest() == manifest.digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": (X, Feature(name="z", range=(0, 1)))}, "2 inputs for a network of 1"),
        ({"inputs": ()}, "0 inputs for a network of 1"),
        ({"outputs": (Y, Target(name="z", mean=0, scale=1))}, "2 outputs for a head of 1"),
        ({"outputs": ()}, "0 outputs for a head of 1"),
        ({"outputs": (ClassLabel(name="a"),)}, "those of a regression"),
        ({"task": "classification"}, "those of a classification"),
        ({"architecture": TWO_CLASSES}, "those of a regression"),
        ({"task": "classification", "architecture": TWO_CLASSES}, "those of a classification"),
        ({"outputs": (Y, Y), "architecture": ONE.model_copy(update={"head": RegressionHead(outputs=2)})}, "same name"),
        ({"inputs": (X, X), "architecture": SMALL}, "same name"),
        ({"noise_variance": (1.0, 1.0)}, "2 noise variances for 1 outputs"),
        ({"noise_variance": (-1.0,)}, "greater than or equal to 0"),
        ({"noise_variance": (float("nan"),)}, "finite number"),
        (
            {"noise_variance": (1.0,), "architecture": ONE.model_copy(update={"head": RegressionHead(variance=True)})},
            "without a variance head",
        ),
        (
            {
                "task": "classification",
                "architecture": TWO_CLASSES,
                "outputs": (ClassLabel(name="a"), ClassLabel(name="b")),
                "noise_variance": (1.0, 1.0),
            },
            "without a variance head",
        ),
        ({"default_samples": 0}, "greater than or equal to 1"),
        ({"task": "ranking"}, "'classification'"),
        ({"weights_sha256": "ABC"}, "String should match pattern"),
    ],
)
def test_parts_must_agree(changes, message):
    """A manifest whose parts contradict each other is refused, with the reason."""
    with pytest.raises(ValidationError, match=message):
        sealed(**(BASE | changes))


@pytest.mark.parametrize("field", ["name", "version"])
@pytest.mark.parametrize(
    "value", ["", ".", "..", ".hidden", "-x", "_x", "a/b", "a\\b", "a b", "a\n", "\0", "a\0", "é", "x" * 65]
)
def test_refused_names(field, value):
    """A name or version is letters, digits, dots, dashes and underscores, so that it can be a folder's name."""
    with pytest.raises(ValidationError, match="pattern"):
        sealed(**BASE, **{field: value})


@pytest.mark.parametrize("value", ["a", "7", "breast-cancer", "1.10.0", "v2_rc.1", "x" * 64])
def test_allowed_names(value):
    """What looks like a name or a version is one."""
    manifest = sealed(**BASE, name=value, version=value)
    assert (manifest.name, manifest.version) == (value, value)


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:" + "0" * 63, "sha256:" + "G" * 64, "0" * 64, "md5:0"])
def test_refused_digests(digest):
    """A digest that does not look like one is refused."""
    with pytest.raises(ValidationError, match="digest"):
        Manifest.model_validate(sealed(**BASE).model_dump() | {"digest": digest})


def test_unknown_field():
    """A field that this version does not know is refused rather than ignored: it might affect answers."""
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Manifest.model_validate(sealed(**BASE).model_dump() | {"temperature": 2.0})


def test_frozen():
    """No field of a manifest can be changed."""
    manifest = sealed(**BASE)
    for field in Manifest.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(manifest, field, getattr(manifest, field))


def test_labels_and_targets():
    """Labels are the outputs' names whatever the task; targets are for regressions alone."""
    labels = (ClassLabel(name="a"), ClassLabel(name="b"))
    classification = sealed(inputs=(X,), outputs=labels, architecture=TWO_CLASSES, task="classification")
    assert (classification.labels, classification.targets) == (("a", "b"), ())
    assert (sealed(**BASE).labels, sealed(**BASE).targets) == (("y",), (Y,))
