"""The public strategies draw the families of campaigns, and shrink to readable rows."""

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings

from lossfuzz.harness.exact.judge import reference_of
from lossfuzz.harness.numbers.formats import BFLOAT16, BINARY16, BINARY32, TRAINING_FORMATS
from lossfuzz.strategies.cases import cases, labels, logits
from lossfuzz.strategies.families import FAMILIES

f32 = np.float32


def softmax(row):
    weights = np.exp(row - row.max())
    return weights / weights.sum()


PLANTED = {
    "a small number in the logarithm": lambda x, y: -np.log(softmax(x)[y] + f32(1e-7)),
    "a clip": lambda x, y: -np.log(np.clip(softmax(x)[y], f32(1e-7), f32(1 - 1e-7))),
    "the logarithm of a softmax": lambda x, y: -np.log(softmax(x)[y]),
    "no shift": lambda x, y: np.log(np.exp(x).sum()) - x[y],
    "a shift by the smallest": lambda x, y: np.log(np.exp(x - x.min()).sum()) + x.min() - x[y],
    "a shift that is added too soon": lambda x, y: (
        x.max() + np.log(np.exp(x - x.max()).sum()) - x[y]
    ),
    "a quotient of exponentials": lambda x, y: -np.log(np.exp(x)[y] / np.exp(x).sum()),
}


def is_wrong(loss, case):
    exact = float(reference_of(case.logits[None], np.array([case.label])).loss[0])
    with np.errstate(all="ignore"):
        found = float(loss(case.logits, case.label))
    return not abs(found - exact) <= 1e-3 * max(exact, 1.0)


@pytest.mark.parametrize("name", PLANTED)
def test_planted_losses_shrink_to_few_classes_and_readable_numbers(name):
    shrunk = find(
        cases([BINARY32]),
        lambda case: is_wrong(PLANTED[name], case),
        settings=settings(
            max_examples=2000, database=None, suppress_health_check=list(HealthCheck)
        ),
    )
    assert len(shrunk.logits) <= 3
    for number in shrunk.logits.tolist():
        assert len(f"{number:g}".replace("-", "")) <= 6
        assert f32(f"{number:.2g}") == number


@given(cases([BINARY32]))
def test_a_sound_loss_is_never_wrong(case):
    def fused(row, label):
        wide = row.astype(np.longdouble)
        wide -= wide.max()
        return np.log(np.exp(wide).sum()) - wide[label]

    assert not is_wrong(fused, case)


def test_many_rows_are_where_softmax_breaks():
    margins = []

    @settings(max_examples=2000, database=None, phases=[Phase.generate])
    @given(cases())
    def draw(case):
        others = np.delete(case.logits.astype(np.float64), case.label)
        if len(others):
            margins.append(np.logaddexp.reduce(others) - float(case.logits[case.label]))

    draw()
    found = np.array(margins)
    assert ((found >= 8) & (found <= 110)).sum() / 2000 >= 0.08


@given(cases())
def test_a_case_has_an_unmasked_label(case):
    assert np.isfinite(case.logits[case.label])
    assert 1 <= len(case.logits) <= 12


def test_cases_shrink_to_small_rows_of_simple_numbers():
    found = find(
        cases([BFLOAT16]),
        lambda case: case.logits.max() - case.logits[case.label] > 16,
        settings=settings(max_examples=3000, database=None),
    )
    assert len(found.logits) == 2
    smaller, larger = sorted(np.abs(found.logits.astype(np.float64)).tolist())
    assert smaller in {0.0, 1.0, 8.0, 10.0}
    assert larger <= 20
    assert found.label == 0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.name)
def test_rows_of_every_family_obey_the_options(family, fmt):
    @settings(max_examples=25)
    @given(
        logits(
            fmt,
            families=[family],
            allow_mask=False,
            allow_subnormal=False,
            allow_negative_zero=False,
            max_magnitude=8.0,
            min_classes=3,
            max_classes=5,
        )
    )
    def draw(row):
        wide = row.astype(np.float64)
        assert row.dtype == fmt.dtype
        assert 3 <= len(row) <= 5
        assert (np.abs(wide) <= 8).all()
        assert ((wide == 0) | (np.abs(wide) >= fmt.smallest_normal)).all()
        assert not np.signbit(wide[wide == 0]).any()

    draw()


@pytest.mark.parametrize(
    "is_met",
    [
        lambda row: np.isneginf(row).any(),
        lambda row: ((row != 0) & (np.abs(row) < BINARY16.smallest_normal)).any(),
        lambda row: np.signbit(row[row == 0]).any(),
        lambda row: np.abs(row[np.isfinite(row)]).max() == BINARY16.largest_finite,
    ],
    ids=["masked", "subnormal", "negative zero", "largest"],
)
def test_what_may_be_ruled_out_is_drawn_where_it_is_not(is_met):
    find(
        logits(BINARY16),
        lambda row: is_met(row.astype(np.float64)),
        settings=settings(max_examples=3000, database=None),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_classes": 4, "max_classes": 2}, "1 <= min_classes <= max_classes"),
        ({"min_classes": 0}, "1 <= min_classes <= max_classes"),
        ({"max_magnitude": -1.0}, "max_magnitude above 0"),
        ({"max_magnitude": float("nan")}, "max_magnitude above 0"),
        ({"max_magnitude": 0.1}, r"0.1 is no number of binary16; the nearest is 0.0999"),
        ({"families": ["nice"]}, "unknown family 'nice'"),
        ({"families": "masks"}, "families as a list of names, got 'masks'"),
        ({"families": []}, "families as a list of names"),
    ],
)
def test_impossible_options_are_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        logits(BINARY16, **options)
    with pytest.raises(ValueError, match=message):
        cases([BINARY16], **options)


def test_labels_need_classes():
    with pytest.raises(ValueError, match="at least one class"):
        labels(0)
