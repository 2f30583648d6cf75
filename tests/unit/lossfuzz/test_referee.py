"""The referee over all losses: what it counts, what it finds, and how it is asked."""

from dataclasses import replace

import numpy as np
import pytest

from lossfuzz import cli, referee
from lossfuzz.harness.exact import enclosed
from lossfuzz.harness.exact.numbers import FLOAT64
from lossfuzz.harness.losses.cross_entropy import WARM_CROSS_ENTROPY
from lossfuzz.harness.losses.divergences import LOG_SUM_EXP
from lossfuzz.harness.losses.reduced import MEAN_CROSS_ENTROPY
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY


def referee_command(*arguments):
    return cli.main(["referee", *arguments])


def test_losses_are_chosen_by_shell_patterns_in_the_tables_order():
    chosen = referee.row_losses_matching(["*focal*", LOG_SUM_EXP.name])
    assert chosen == [
        spec for spec in referee.ROW_LOSSES if "focal" in spec.name or spec is LOG_SUM_EXP
    ]
    assert len(chosen) == 8


def test_a_reduction_stands_for_the_loss_of_its_rows():
    assert referee.row_losses_matching([MEAN_CROSS_ENTROPY.name]) == [SOFTMAX_CROSS_ENTROPY]


def test_one_loss_is_compared_alone(capsys):
    assert referee_command("--losses", "log-sum-exp", "--rows", "200") == 0
    out = capsys.readouterr().out
    assert "0 disagreements between enclosed references and textbook formulas by Arb, in 1 " in out
    assert "log-sum-exp" in out
    assert "binary" not in out
    assert "correctly rounded" not in out


def test_the_integer_label_is_compared_bit_by_bit_as_well(capsys):
    assert referee_command("--losses", SOFTMAX_CROSS_ENTROPY.name, "--rows", "400") == 0
    out = capsys.readouterr().out
    assert "0 disagreements between mpmath and Arb, 0 between the float64 kernel" in out
    assert "0 disagreements between enclosed references" in out


def test_without_arb_the_kernel_is_compared_alone(capsys):
    assert referee_command("--without-arb", "--rows", "400", "--shapes", "8x10") == 0
    out = capsys.readouterr().out
    assert "Arb left out" in out
    assert "textbook" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--losses", "hinge"], "unknown loss 'hinge'; known losses: softmax cross-"),
        (["--losses", "log-sum-exp", "--without-arb"], "nothing but the softmax cross-entropy"),
        (["--rows", "0"], "expected --rows of 1 or more"),
    ],
)
def test_a_choice_that_makes_no_sense_gets_one_line(capsys, arguments, message):
    assert referee_command(*arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_a_function_that_errs_by_2_to_the_minus_40_is_noticed(monkeypatch, capsys):
    off = replace(FLOAT64, exp=lambda values: np.exp(values) * (1 + 2.0**-40))
    monkeypatch.setattr(enclosed, "FLOAT64", off)
    monkeypatch.setattr(referee, "FLOAT64", off)
    assert referee_command("--losses", WARM_CROSS_ENTROPY.name, "--rows", "400") == 1
    out = capsys.readouterr().out
    assert f"{WARM_CROSS_ENTROPY.name}: " in out
    assert "but Arb's is" in out


def test_a_wrong_gradient_is_noticed_though_the_loss_is_right():
    def evaluate(logits, targets):
        loss, gradient = SOFTMAX_CROSS_ENTROPY.evaluate(logits, targets)
        return loss, -gradient

    verdict = referee.compare_loss(replace(SOFTMAX_CROSS_ENTROPY, evaluate=evaluate), 100, 0)
    assert verdict.arb > 0
    assert all("gradient" in line for line in verdict.examples)
    assert len(verdict.examples) == 3


def test_a_wrong_definition_is_noticed():
    wrong = replace(LOG_SUM_EXP, textbook=SOFTMAX_CROSS_ENTROPY.textbook)
    assert referee.compare_loss(wrong, 100, 0).arb == 0  # no targets: 0 weights, the same formula
    wrong = replace(WARM_CROSS_ENTROPY, textbook=SOFTMAX_CROSS_ENTROPY.textbook)
    assert referee.compare_loss(wrong, 100, 0).arb > 0


def test_of_many_classes_some_are_compared_the_label_among_them():
    assert referee._components(5, 3) == [0, 1, 2, 3, 4]
    some = referee._components(1000, 123)
    assert 33 <= len(some) <= 34
    assert {0, 123, 999} <= set(some)
    verdict = referee.compare_loss(LOG_SUM_EXP, 3 * 16, 0, shapes=((1, 300),))
    assert 34 * verdict.rows <= verdict.values <= 35 * verdict.rows
    assert verdict.arb == 0
