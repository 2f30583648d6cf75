"""Hypothesis profiles for tests that call TensorFlow.

`register` makes them known, `settings.load_profile` or ``pytest --lossfuzz-profile`` loads one.
None has a deadline, since TensorFlow's first call of a function takes seconds, and all keep the
database of examples. They start from Hypothesis's ``default`` profile also where the variable
``CI`` is set, which makes Hypothesis load its ``ci`` profile: that one draws the same examples in
every run, and forgets those that failed.
"""

from __future__ import annotations

PROFILES: dict[str, int] = {"lossfuzz": 200, "lossfuzz-ci": 500, "lossfuzz-nightly": 20_000}
"""Name to the number of examples of each test."""


def register() -> None:
    """Make the profiles known to Hypothesis; none is loaded."""
    from hypothesis import HealthCheck, settings

    for name, examples in PROFILES.items():
        settings.register_profile(
            name,
            parent=settings.get_profile("default"),
            max_examples=examples,
            deadline=None,
            derandomize=False,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow],
        )


def load(name: str) -> None:
    """Register the profiles and load one of them.

    Raises:
        ValueError: there is none of that name; the message lists those that there are.
    """
    from hypothesis import settings

    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}; known profiles: {', '.join(PROFILES)}")
    register()
    settings.load_profile(name)
