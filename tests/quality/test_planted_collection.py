"""The collection of planted losses and sound twins, in short form: every entry does its part."""

import pytest
from planted_collection import PLANTED
from planted_runner import defects_of, first_defect, loss_of, outcomes
from sound_twins import SOUND

pytestmark = pytest.mark.usefixtures("tf")

SMALL = ((256, 3), (8, 32, 10))
LARGE = ((4096, 2), (64, 257), (4, 32000), (2, 70000))


def named(entry):
    return entry.name


def test_every_entry_has_a_name_of_its_own_and_a_loss_that_is_known():
    entries = (*PLANTED, *SOUND)
    assert len({entry.name for entry in entries}) == len(entries)
    assert all(loss_of(entry) for entry in entries)
    assert len(PLANTED) >= 40
    assert len(SOUND) >= 12


@pytest.mark.parametrize("entry", PLANTED, ids=named)
def test_a_planted_defect_is_found(entry):
    formats = [name for name in ("float32", "float16", "bfloat16") if name in entry.formats]
    assert any(
        first_defect(entry, name, entry.modes[0], shapes=shapes, rounds=rounds)
        for shapes, rounds in ((SMALL, 2), (LARGE, 1))
        for name in formats
    )


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("entry", SOUND, ids=named)
def test_a_sound_twin_shows_no_defect(entry, mode):
    for name in entry.formats:
        for outcome in outcomes(entry, name, mode, shapes=SMALL[:1], rounds=1):
            assert not defects_of(outcome), (name, outcome.prepared.recipe)


@pytest.mark.parametrize("name", ["shifted_by_hand", "two_wheres", "two_wheres_of_softplus"])
def test_a_sound_twin_shows_no_defect_under_xla(name):
    (entry,) = (one for one in SOUND if one.name == name)
    for format_name in entry.formats:
        for outcome in outcomes(entry, format_name, "xla", shapes=SMALL[:1], rounds=1):
            assert not defects_of(outcome), (format_name, outcome.prepared.recipe)
