"""Hypothesis profile and TensorFlow for all tests."""

import os

import pytest
from hypothesis import HealthCheck, settings

os.environ.pop("COLUMNS", None)  # pytest-xdist sets it for its workers; tables would be cut to it

settings.register_profile(
    "lossfuzz",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("lossfuzz")


@pytest.fixture(scope="session")
def tf():
    from lossfuzz.harness.backend import start_tensorflow

    return start_tensorflow(logical_cpus=2)


@pytest.fixture(scope="session")
def gpu(tf):
    from lossfuzz.harness.backend import devices

    found = [name for name in devices(tf) if name.startswith("GPU")]
    if not found:
        pytest.skip("TensorFlow lists no GPU here")
    return found[0]
