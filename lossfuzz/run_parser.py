"""The options of ``lossfuzz run``, and what its parser shares with those of other commands."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from lossfuzz import quantities
from lossfuzz.errors import USAGE_ERROR
from lossfuzz.harness.records.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Callable


LOSSES = (
    "losses by name or shell pattern, such as '*focal*'; no comma list, since names hold commas "
    "(all)"
)


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, with exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Tell what is wrong, and end."""
        if message == "argument --bounds: expected one argument":
            message += ", written behind = since it may begin with -: --bounds=-1:1"
        self.exit(USAGE_ERROR, f"{self.prog}: error: {one_line(message)}\n")


def add_markdown(parser: argparse.ArgumentParser) -> None:
    """The option for a pull request's comment."""
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="write a pull request's comment; - prints it alone",
    )


def add_limits(parser: argparse.ArgumentParser) -> None:
    """The limits of time and memory."""
    parser.add_argument(
        "--time-limit",
        type=quantities.seconds,
        default=300.0,
        metavar="SECONDS",
        help="a cell of a campaign that takes longer for a batch is a timeout (300)",
    )
    parser.add_argument(
        "--memory-limit",
        type=quantities.mebibytes,
        metavar="MIB",
        help="memory of a campaign's worker (four fifths of the machine's, shared evenly)",
    )


def add_run(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    """``lossfuzz run``."""
    run = commands.add_parser(
        "run",
        help="run loss paths on extreme logits and measure them",
        description="Run every chosen cell (path, format, mode, device) on the same batches, "
        "measure loss and gradient against exact values, and write a report.",
    )
    run.set_defaults(command=command("run"))
    chosen = run.add_argument_group("what to run (each may be repeated, or be a comma list)")
    for option, metavar, text in (
        ("--losses", "PATTERN", LOSSES),
        ("--paths", "PATTERN", "loss paths by name or shell pattern, such as 'keras/*' (all)"),
        ("--formats", "FORMAT", "float16, bfloat16, float32 (all three)"),
        ("--modes", "MODE", "eager, graph, xla (all three)"),
        ("--device", "DEVICE", "such as CPU:0 or GPU:0 (all that TensorFlow lists)"),
        ("--families", "FAMILY", "families of logits (all)"),
        ("--shapes", "SHAPE", "shapes of batches, classes last, such as 256x10, or 'all'"),
    ):
        chosen.add_argument(option, action="append", metavar=metavar, help=text)
    own = run.add_argument_group("your own loss")
    own.add_argument(
        "--loss",
        action="append",
        metavar="MODULE:FUNCTION",
        help="a callable of yours, loss(logits, labels) on tensors; --paths adds others beside it",
    )
    own.add_argument(
        "--as",
        dest="against",
        metavar="LOSS",
        help="what it is to compute: softmax-cross-entropy or another of `lossfuzz paths`, or "
        "your own formula, module:formula",
    )
    own.add_argument(
        "--reduction",
        metavar="HOW",
        help="of a loss of the whole batch: mean, sum, weighted-mean (sum of w l, divided by the "
        "rows), mean-with-sample-weight (divided by the sum of w); row i, from 0, weighs "
        "(i %% 8 + 1) / 4, see lossfuzz.sample_weights",
    )
    own.add_argument(
        "--bounds",
        metavar="LOW:HIGH",
        help="the interval that the loss's inputs lie in, such as --bounds=-1:1 for cosines (any)",
    )
    budget = run.add_argument_group("how much").add_mutually_exclusive_group()
    budget.add_argument(
        "--rows", type=quantities.whole, help="rows per cell, rounded up to batches (6240)"
    )
    budget.add_argument("--seconds", type=float, help="seconds of measuring, for all cells")
    run.add_argument("--seed", type=quantities.whole, default=0, help="seed of all batches (0)")
    run.add_argument(
        "--search",
        type=float,
        metavar="SHARE",
        help="batches of mutated recipes for each planned batch; they find more, and leave the "
        "statistics alone (0.25)",
    )
    run.add_argument(
        "--out", type=Path, default=Path("lossfuzz-report"), help="folder of the report"
    )
    add_markdown(run)
    run.add_argument(
        "--strict",
        action="store_true",
        help="exit with 1 if any cell has a defect or is not judged, or an own loss's cell "
        "cannot be run",
    )
    run.add_argument(
        "--fail-above",
        type=float,
        metavar="SHARE",
        help="exit with 1 if any kind of defect shows in more than this share of a cell's rows",
    )
    run.add_argument(
        "--logical-cpus",
        type=quantities.logical_cpus,
        default=1,
        metavar="N",
        help="split the CPU into N devices (1)",
    )
    run.add_argument(
        "--workers",
        type=quantities.workers,
        metavar="N",
        help="run as a campaign in N processes, which survives crashes and can be resumed",
    )
    run.add_argument(
        "--python",
        action="append",
        metavar="PATH",
        help="run the cells in another interpreter's TensorFlow as well; makes it a campaign",
    )
    add_limits(run)
    run.add_argument("--quiet", action="store_true", help="print the verdict alone")


def command(name: str) -> Callable[[argparse.Namespace], int]:
    """The function that carries out a command, imported when it is called.

    Args:
        name: of the module in `commands`, and of the command where a module has several.
    """
    module, _, one = name.partition(":")

    def carried_out(options: argparse.Namespace) -> int:
        found = importlib.import_module(f"lossfuzz.commands.{module}")
        return int(getattr(found, f"{one or module}_command")(options))

    return carried_out
