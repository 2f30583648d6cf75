"""Unit tests start no TensorFlow."""

import pytest


@pytest.fixture(scope="session")
def tf():
    pytest.fail("a unit test starts no TensorFlow: move it to tests/tensorflow", pytrace=False)
