"""Two engines agree, and each with what is known without them."""

import numpy as np
import pytest
from flint import arb, ctx

from lossfuzz.harness.programs.balls import Balls
from lossfuzz.harness.programs.enclosures import Enclosed, Enclosures


def test_a_sum_of_exact_numbers_is_exact_where_it_does_not_round():
    engine = Enclosures()
    assert engine.add(engine.exactly([1.0, 0.5]), engine.exactly([-1.0, 2.0])).radius is None
    lost = engine.add(engine.exactly([1.0]), engine.exactly([2.0**-60])).radius
    assert lost is not None
    assert lost[0] == 2.0**-60


def test_a_mask_keeps_its_zeros_exact():
    engine = Enclosures()
    wide = Enclosed(np.array([3.0, 4.0]), np.array([0.1, 0.1]))
    masked = engine.mul(engine.exactly([0.0, 1.0]), wide)
    assert engine.vanishes(masked).tolist() == [True, False]


def test_an_adjoint_of_zero_stays_zero_whatever_it_meets():
    for engine in (Enclosures(), Balls()):
        unknown = engine.exactly([np.nan, np.inf])
        assert engine.vanishes(engine.times(engine.exactly([0.0, 0.0]), unknown)).all()


FUNCTIONS = ["exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tanh"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_enclosures_hold_the_balls(name):
    rng = np.random.default_rng(3)
    middles = np.abs(rng.normal(size=400)) * 10.0 ** rng.uniform(-12, 2, 400)
    radii = middles * 10.0 ** rng.uniform(-16, -1.5, 400)
    narrow = Enclosures()
    found = getattr(narrow, name)(Enclosed(middles, radii))
    with ctx.workprec(200):
        for side in (-1, 1):
            ends = [arb(m) + side * arb(r) for m, r in zip(middles, radii, strict=True)]
            exact = getattr(Balls(), name)(np.array(ends, object))
            for place, ball in enumerate(exact):
                bound = 2 * found.radius[place]
                assert abs(ball - arb(found.middle[place])) <= arb(bound), (place, middles[place])


@pytest.mark.parametrize("name", ["add", "mul", "div"])
def test_arithmetic_of_enclosures_holds_the_balls(name):
    rng = np.random.default_rng(4)
    pairs = [rng.normal(size=300) * 10.0 ** rng.uniform(-150, 150, 300) for _ in range(2)]
    narrow = [Enclosed(one, np.abs(one) * 1e-13) for one in pairs]
    found = getattr(Enclosures(), name)(*narrow)
    with ctx.workprec(200):
        exact = getattr(Balls(), name)(*[Balls().exactly(one) for one in pairs])
        for place, ball in enumerate(exact):
            assert abs(ball - arb(found.middle[place])) <= arb(2 * found.radius[place])
