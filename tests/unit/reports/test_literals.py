"""Numbers as code: exact, whatever they are, and short where they repeat."""

import base64
import math
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.findings import Finding
from lossfuzz.harness.results.row_batch import RowBatch
from lossfuzz.reports.literals import is_packed, listed

NAMES = {"base64": base64, "zlib": zlib, "numpy": np, "float": float, "range": range}
NUMBERS = st.floats(allow_nan=False, width=32)


def read(code):
    return eval(code, {"__builtins__": {}}, NAMES)  # noqa: S307 - our own text


def bits(values):
    return [(value, math.copysign(1, value)) for value in values]


@given(st.lists(NUMBERS, max_size=100) | st.lists(st.sampled_from([0.0, -0.0, 1.5]), max_size=99))
def test_a_list_reads_back_as_it_was(values):
    assert bits(read(listed(values))) == bits(values)


@pytest.mark.parametrize(
    "values",
    [
        [0.0] * 31999 + [1.0],
        [0.0] * 100 + [-math.inf] * 31900,
        [float(k % 1000 == 7) for k in range(20000)],
        [2.0] * 5 + [0.0] * 70000,
    ],
    ids=["one at the end", "masked", "a few among many", "two runs"],
)
def test_long_rows_of_few_numbers_are_short(values):
    code = listed(values)
    assert len(code) < 500
    assert not is_packed(code)
    assert bits(read(code)) == bits(values)


def test_many_different_numbers_are_packed_bit_by_bit():
    values = np.random.default_rng(1).normal(size=3000)
    for some in (values.astype(np.float32).astype(float).tolist(), values.tolist()):
        assert is_packed(listed(some))
        assert read(listed(some)) == some


def test_a_record_without_a_batch_is_as_it_was_and_one_with_it_reads_back():
    finding = Finding(
        kind=kinds.NON_FINITE_LOSS,
        tier=kinds.DEFECT,
        path="tf.nn/naive",
        format="float32",
        mode="eager",
        device="CPU:0",
        logits=(0.0, -math.inf),
        label=0,
        loss_dtype="float32",
        observed_loss=0.0,
        exact_loss=1.0,
        documented_loss=1.0,
        observed_gradient=(0.0, 0.0),
        exact_gradient=(0.0, 0.0),
        ulp_error=1.0,
        mixed_error=1.0,
        bound=1.0,
        margin=1.0,
        recipe={},
        row=3,
    )
    record = finding.to_json()
    assert not {"batch", "unconfirmed"} & set(record)
    assert Finding.from_json(record) == finding
    record = {name: one for name, one in record.items() if name != "checksum"}
    rows = ((0.0, -math.inf), (88.0, 0.0))
    batch = RowBatch(logits=rows, targets=((0.0,), (1.0,)), shape=(2,), row=0)
    together = Finding.from_json({**record, "batch_rows": 2, "batch": batch.to_json()})
    assert together.batch == batch
    assert Finding.from_json(together.to_json()) == together
    assert together.id != finding.id
    assert (finding.place, together.place) == (0, 0)
