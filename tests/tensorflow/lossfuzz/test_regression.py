"""Checks beside stored ones, on real TensorFlow: what is called worse, known and better."""

import json

import pytest

import lossfuzz
from lossfuzz.baseline import StoredCheck, read_stored, the_same, written
from lossfuzz.regression import message_of, regression, stored_result

pytestmark = pytest.mark.usefixtures("tf")

BUDGET = {"formats": ["float32"], "modes": ["eager"], "shapes": [(64, 6)], "rows": 1200}


def made(*, clip=None, raises=False, nan_above=None):
    def loss(logits, labels):
        import tensorflow as tf

        if raises:
            raise RuntimeError("no such luck")
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        if clip is not None:
            losses = tf.minimum(losses, clip)
        if nan_above is not None:
            losses += tf.where(losses > nan_above, float("nan"), 0.0)
        return losses

    return loss


def checked(loss, **budget):
    try:
        return lossfuzz.check(
            loss, "softmax-cross-entropy", **{**BUDGET, **budget}, stop_early=False
        )
    except (lossfuzz.LossDefect, lossfuzz.LossRefusal) as error:
        return error.result


def stored(result):
    """A check as it comes back from a file."""
    return StoredCheck(test="one", number=0, record=json.loads(json.dumps(result.to_json())))


def compared(before, after):
    check = stored(before)
    return regression(check, stored_result(check, after), after)


@pytest.fixture(scope="module")
def sound(tf):
    return checked(made())


@pytest.fixture(scope="module")
def clipped(tf):
    return checked(made(clip=16.0))


def test_the_same_loss_again_is_neither_worse_nor_better(clipped):
    found = compared(clipped, checked(made(clip=16.0)))
    assert "saturation" in found.known
    assert found.worse == found.better == found.news == ()


def test_a_kind_that_the_cell_did_not_show_is_worse_and_comes_with_its_row(sound, clipped):
    found = compared(sound, clipped)
    assert any("float32 eager on CPU:0: new saturation" in line for line in found.worse)
    assert {finding.kind for finding in found.news} >= {"saturation"}
    check = stored(sound)
    told = message_of(found, stored_result(check, clipped), clipped, "base.json")
    assert "is worse than the baseline base.json says" in told
    assert "exact value" in told
    assert "tf.GradientTape" in told


def test_a_larger_share_and_a_smaller_margin_are_worse(clipped):
    found = compared(clipped, checked(made(clip=8.0)))
    assert any("saturation" in line and "→" in line for line in found.worse)
    assert any("the gradient vanishes from margin 8." in line for line in found.worse)
    assert not found.news


def test_a_smaller_share_is_better_and_nothing_is_worse(clipped):
    found = compared(checked(made(clip=8.0)), clipped)
    assert any("saturation" in line for line in found.better)
    assert found.worse == ()


def test_a_defect_that_is_gone_is_better(sound, clipped):
    found = compared(clipped, sound)
    assert any("no saturation any more" in line for line in found.better)
    assert found.worse == found.known == ()


def test_a_loss_that_no_longer_runs_is_worse_and_one_that_never_ran_is_known(sound):
    refused = checked(made(raises=True))
    (line,) = compared(sound, refused).worse
    assert "cannot be run" in line
    assert "no such luck" in line
    assert compared(refused, refused).worse == ()
    assert any("runs now" in line for line in compared(refused, sound).better)


def test_other_rows_are_no_regression_but_a_new_kind_is(sound, clipped):
    assert compared(clipped, checked(made(clip=16.0), seed=5)).worse == ()
    assert compared(sound, checked(made(), seed=5, rows=700)).worse == ()
    assert compared(sound, checked(made(clip=30.0), seed=5)).worse
    found = compared(clipped, checked(made(clip=16.0, nan_above=15.0), seed=5))
    assert any("new non-finite loss" in line for line in found.worse)


def test_a_cell_that_the_baseline_lacks_is_held_to_no_known_defect(clipped):
    after = checked(made(clip=16.0), modes=["eager", "graph"])
    found = compared(clipped, after)
    assert found.worse
    assert all("graph" in line for line in found.worse)


def test_a_damaged_cell_is_one_clear_message(clipped):
    check = stored(clipped)
    del check.record["cells"][0]["summary"]["loss_ulp"]
    with pytest.raises(ValueError, match=r"cannot be read here.*save it again"):
        stored_result(check, clipped)


def test_what_is_written_is_read_again_in_any_order(tmp_path, sound, clipped):
    one, other = stored(sound), StoredCheck(test="a", number=1, record=stored(clipped).record)
    assert written([one, other]) == written([other, one])
    (tmp_path / "base.json").write_text(written([one, other]))
    assert read_stored(tmp_path / "base.json") == [other, one]


def test_results_of_a_run_are_read_as_one_check(tmp_path, sound):
    (tmp_path / "results.json").write_text(json.dumps(sound.to_json()))
    (check,) = read_stored(tmp_path / "results.json")
    assert check.cell_names() == {one.cell.name for one in sound.cells}


def test_the_same_tests_check_is_preferred(sound):
    checks = [
        StoredCheck(test=test, number=number, record=stored(sound).record)
        for test, number in (("a", 0), ("b", 0), ("b", 1))
    ]
    cells = {one.cell.name for one in sound.cells}
    assert the_same(checks, test="b", number=1, cells=cells) is checks[2]
    assert the_same(checks, test="b", number=7, cells=cells) is checks[1]
    assert the_same(checks, test="new", number=0, cells=cells) is checks[0]
    assert the_same(checks, test="a", number=0, cells={"another"}) is None
