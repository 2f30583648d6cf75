"""Sound losses that take [rows, classes] only are judged there, and told so once."""

import pytest
from sound_rows import SOUND_OF_ROWS, of_rows_alone
from sound_twins import SOUND

import lossfuzz

pytestmark = pytest.mark.usefixtures("tf")

STYLES = tuple(of_rows_alone(one) for one in SOUND if one.reduction is None)


FAMILIES = ("margin_sweep", "outlier", "masks", "offset", "normal", "whole_numbers")


@pytest.mark.parametrize("entry", [*SOUND_OF_ROWS, *STYLES], ids=lambda entry: entry.name)
def test_a_sound_loss_of_rows_alone_is_not_flagged_and_told_once(entry):
    result = lossfuzz.check(
        entry.loss,
        entry.against,
        formats=list(entry.formats),
        modes=["eager"],
        rows=200,
        shapes=[(16, 6), (2, 8, 6)],
        families=FAMILIES,
    )
    told = [note for note in result.notes if "takes [rows, classes] only" in note]
    assert len(told) == 1
    assert "[16, 6] in place of [2, 8, 6]" in told[0]
    assert all(one.summary.judged for one in result.cells)
