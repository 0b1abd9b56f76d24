"""What a version knows of its errors: quantiles by level, the settings they hold for, what stands in JSON."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from models.architecture import ClassificationHead, Mlp, RegressionHead
from models.calibration import Calibration, Conformal
from models.repository import CorruptVersion, Repository
from tests.models.examples import SMALL, sealed, version_of

HELD = Conformal(
    samples=100, dropout=(0.5,), rows=40, levels=(0.5, 0.9, 0.95), quantiles=((0.7, 1.6, 2.0), (0.5, 1.5, None))
)


@pytest.mark.parametrize(
    ("level", "expected"),
    [(0.01, (0.7, 0.5)), (0.5, (0.7, 0.5)), (0.51, (1.6, 1.5)), (0.95, (2.0, None)), (0.96, (None, None))],
)
def test_quantile_at_a_level(level, expected):
    """A level that is not kept gets the quantile of the next higher one, and none where there is none."""
    assert HELD.at(level) == expected


@pytest.mark.parametrize(
    ("method", "samples", "p", "holds"),
    [
        ("dropout", 100, None, True),
        ("dropout", 100, 0.5, True),
        ("dropout", 100, 0.4, False),
        ("dropout", 101, None, False),
        ("dropout", 99, None, False),
        ("ensemble", 100, None, False),
    ],
)
def test_settings_that_it_holds_for(method, samples, p, holds):
    """Quantiles hold for the method, samples and dropout they were made with; a what-if of the same p is none."""
    assert HELD.holds_for(method, samples, p) is holds


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": (0.5, 0.5, 0.95)}, "the levels must rise"),
        ({"levels": (0.5, 0.9)}, "3 quantiles for 2 levels"),
        ({"quantiles": ((0.7, 0.6, 2.0),)}, "must not fall"),
        ({"quantiles": ((0.7, None, 2.0),)}, "must not fall"),
        ({"quantiles": ((-0.1, 0.6, 2.0),)}, "greater than or equal to 0"),
        ({"levels": (0.5, 0.9, 1.0)}, "less than 1"),
        ({"samples": 1}, "greater than or equal to 2"),
    ],
)
def test_parts_that_disagree(changes, message):
    """Quantiles that can't be ones are refused."""
    with pytest.raises(ValidationError, match=message):
        Conformal.model_validate(HELD.model_dump() | changes)


def test_json_leaves_out_what_was_not_fitted():
    """An empty calibration is an empty object, as in versions that were made before there was any."""
    assert Calibration().model_dump(mode="json") == {}
    assert Calibration(temperature=2.0).model_dump(mode="json") == {"temperature": 2.0}
    assert Calibration.model_validate({}) == Calibration()


def test_digest_depends_on_it():
    """A temperature and every quantile change what a model answers, and so its digest."""
    head = Mlp(inputs=2, hidden=(3,), head=RegressionHead(outputs=2, variance=True))
    changed = HELD.model_copy(update={"quantiles": ((0.7, 1.6, 2.0), (0.5, 1.6, None))})
    made = [
        Calibration(),
        Calibration(temperature=1.5),
        Calibration(conformal=HELD),
        Calibration(conformal=changed),
        Calibration(conformal=HELD.model_copy(update={"samples": 50})),
    ]
    assert len({sealed(head, calibration=calibration).digest for calibration in made}) == len(made)


@pytest.mark.parametrize(
    ("spec", "calibration", "message"),
    [
        (SMALL, Calibration(temperature=1.5), "a temperature is for classifications and variance heads"),
        (SMALL, Calibration(conformal=HELD), "2 lists of conformal quantiles, expected 1"),
        (
            Mlp(inputs=2, hidden=(3,), head=ClassificationHead(classes=3)),
            Calibration(conformal=HELD),
            "2 lists of conformal quantiles, expected 1",
        ),
        (
            Mlp(inputs=2, hidden=(3,), dropout=0.4, head=RegressionHead(outputs=2)),
            Calibration(conformal=HELD),
            "another dropout",
        ),
    ],
)
def test_a_manifest_refuses_what_does_not_fit(spec, calibration, message):
    """A calibration must be one of this network's."""
    with pytest.raises(ValidationError, match=message):
        sealed(spec, calibration=calibration)


def test_a_changed_quantile_is_found_out(tmp_path):
    """A store's calibration can't be edited unnoticed."""
    spec = Mlp(inputs=2, hidden=(3,), head=RegressionHead(outputs=2))
    repository = Repository(tmp_path)
    folder = repository.publish(*version_of(spec, calibration=Calibration(conformal=HELD)))
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace("1.6", "1.7"))
    with pytest.raises(CorruptVersion, match="digest"):
        repository.load("net")
