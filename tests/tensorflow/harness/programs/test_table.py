"""Every entry of the table agrees with TensorFlow in float64, and with its own differences."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from lossfuzz.harness.programs.derivatives import slope_error
from lossfuzz.harness.programs.evaluation import exact_values
from lossfuzz.harness.programs.operations import table
from lossfuzz.harness.programs.tracing import traced

_SPEC = importlib.util.spec_from_file_location(
    "table_cases", Path(__file__).with_name("table_cases.py")
)
table_cases = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(table_cases)

WITHOUT_A_CASE = {
    *(
        "BatchMatMul",
        "CTCLossV2",
        "Empty",
        "Mod",
        "BatchMatMulV3",
        "BiasAddV1",
        "Bucketize",
        "Case",
        "StatelessCase",
    ),
    *("ComplexAbs", "Concat", "Diag", "DiagPart", "MatrixDiag", "MatrixDiagV2", "NegV2"),
    *("MatrixDiagPart", "MatrixDiagPartV2", "MatrixSetDiag", "MatrixSetDiagV2", "Gather"),
    *("ParallelDynamicStitch", "PreventGradient", "ResourceGather", "Reverse", "ShapeN", "TopK"),
    *("SegmentSumV2", "SegmentMeanV2", "SegmentMaxV2", "SegmentMinV2", "StatelessIf"),
    *("StatelessWhile", "TensorScatterSub", "BroadcastArgs", "BroadcastGradientArgs"),
    *("BitwiseAnd", "BitwiseOr", "BitwiseXor", "LeftShift", "RightShift", "Invert"),
    *("TruncateMod", "TruncateDiv", "EmptyTensorList", "TensorListFromTensor"),
    *("TensorListReserve", "TensorListGetItem", "TensorListSetItem", "TensorListPushBack"),
    *("TensorListPopBack", "TensorListLength", "TensorListConcatV2", "TensorListConcat"),
    *("TensorListGather",),
}
"""Spellings of entries that have one, and integers alone."""


@pytest.fixture(scope="module")
def every_case(tf):
    return table_cases.cases(tf)


def test_every_entry_has_a_case(every_case):
    assert set(table()) - set(every_case) - WITHOUT_A_CASE == set()


@pytest.mark.parametrize("kind", sorted(set(table()) - WITHOUT_A_CASE))
def test_agrees_with_tensorflow_and_with_its_differences(tf, every_case, kind):
    kinds = set()
    for function, arrays in every_case[kind]:
        kinds |= set(_agrees(tf, function, arrays).kinds)
    assert {kind, f"Stateless{kind}"} & kinds


def _agrees(tf, function, arrays):
    def real(*tensors):
        return tf.cast(function(*tensors), tf.float64)

    program = traced(real, [tf.TensorSpec(one.shape, one.dtype) for one in arrays])
    wrt = range(len(arrays))
    found = exact_values(program, arrays, wrt=wrt)
    given = [tf.constant(one) for one in arrays]
    with tf.GradientTape() as tape:
        tape.watch(given)
        value = real(*given)
    slopes = tape.gradient(value, given, unconnected_gradients="zero")
    # the kernel of CTC takes its logarithms in float32
    bound = 1e-5 if "CTCLoss" in program.kinds else 1e-8
    assert found.judged.all(), found.reason
    np.testing.assert_allclose(found.value, value.numpy(), rtol=bound / 10, atol=1e-13)
    for place, slope in enumerate(map(tf.convert_to_tensor, slopes)):
        assert found.gradients_judged[place].all(), found.reason
        scale = bound / 100 * max(1.0, float(np.abs(slope).max()))
        np.testing.assert_allclose(found.gradients[place], slope, rtol=bound, atol=scale)
        if arrays[place].size < 100 and "StopGradient" not in program.kinds:
            assert slope_error(program, arrays, wrt=place) == 0
    return program
