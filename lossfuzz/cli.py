"""The command line. Imports what a command needs when it is given, and nothing for ``--help``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from lossfuzz import quantities
from lossfuzz.errors import DEFECTS, OUTPUT_FAILED, USAGE_ERROR
from lossfuzz.harness.records.printable import one_line
from lossfuzz.streams import guarded_streams

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lossfuzz.streams import GuardedStream

_EXIT_CODES = """\
exit codes:
  0    done
  1    defects where they were to fail the command; a cell got worse; a finding is gone
  2    wrong use: the message says what was expected
  3    the exact values disagree with mpmath
  70   lossfuzz itself failed; LOSSFUZZ_TRACEBACK=1 shows where
  74   what was to be printed could not be written; files that are named were
  124  a loss of yours took longer than --time-limit, and could not be interrupted
  130  ended by Ctrl-C; 143 by SIGTERM, 129 by SIGHUP
"""


_LOSSES = (
    "losses by name or shell pattern, such as '*focal*'; no comma list, since names hold commas "
    "(all)"
)


class _OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, with exit code 2."""

    def error(self, message: str) -> NoReturn:
        if message == "argument --bounds: expected one argument":
            message += ", written behind = since it may begin with -: --bounds=-1:1"
        self.exit(USAGE_ERROR, f"{self.prog}: error: {one_line(message)}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code, which the end of ``--help`` lists.

    Args:
        arguments: what to parse; by default the process's own.
    """
    with guarded_streams() as output:
        try:
            options = _parser().parse_args(arguments)
        except SystemExit as ended:  # it has told its help, its version, or what is wrong
            if _is_lost(output, 0 if ended.code is None else ended.code):
                raise SystemExit(OUTPUT_FAILED) from None
            raise
        from lossfuzz.ending import carried_out  # which take the time that --help has not
        from lossfuzz.supervised import leave, supervised

        _look_in_current_folder(options)
        if arguments is None and _names_modules(options):
            code = supervised(lambda: carried_out(options), _modules_named(options))
        else:
            code = carried_out(options)
        code = OUTPUT_FAILED if _is_lost(output, code) else code
    if arguments is None and _names_modules(options):
        leave(code)
    return code


def _is_lost(output: GuardedStream, code: object) -> bool:
    """Tell that something could not be printed, where the exit code would not."""
    output.flush()
    if not output.failure or code not in {0, DEFECTS}:
        return False
    print(  # noqa: T201
        f"lossfuzz: error: standard output cannot be written ({output.failure}); files are not "
        "affected",
        file=sys.stderr,
    )
    return True


def _look_in_current_folder(options: argparse.Namespace) -> None:
    """Let modules be found in the current folder if the command line names some, or trusts a file.

    A command that names none imports nothing from there: it may be a folder of somebody else's. A
    folder that is gone would make each relative entry of the path an error.
    """
    try:
        folder = str(Path.cwd())
    except OSError:
        sys.path[:] = [entry for entry in sys.path if os.path.isabs(entry)]  # noqa: PTH117 - entries are texts
        return
    if folder not in sys.path and _names_modules(options):
        sys.path.append(folder)


def _names_modules(options: argparse.Namespace) -> bool:
    """Whether the command may call something of a user's own."""
    return getattr(options, "trust", False) or bool(_modules_named(options))


def _modules_named(options: argparse.Namespace) -> list[str]:
    """What may be something of a user's own, as ``package.module:name``."""
    given = (getattr(options, name, None) or () for name in ("loss", "against", "losses", "paths"))
    return [name for names in given for name in names if ":" in name]


def _parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog="lossfuzz",
        description="Fuzz TensorFlow's and Keras's losses against exact values and gradients.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lossfuzz {_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_run(commands)
    listing = commands.add_parser("paths", help="list the loss paths and the cells they make")
    listing.set_defaults(command=_command("paths"))
    referee = commands.add_parser(
        "referee",
        help="compare the exact references with Arb, row by row, for every loss on all families",
        description="Compare the correctly rounded references of softmax cross-entropy with an "
        "integer label bit by bit, and the enclosures of every loss with its textbook formula "
        "over Arb's balls. Exits with 1 if they disagree anywhere.",
    )
    referee.add_argument(
        "--rows",
        type=quantities.whole,
        default=20_000,
        help="rows to compare bit by bit (20000); of every loss's enclosures a quarter as many",
    )
    referee.add_argument(
        "--losses",
        action="append",
        metavar="PATTERN",
        help="losses by name or shell pattern, such as '*focal*'; may be repeated, and takes no "
        "comma list, since names hold commas (all)",
    )
    referee.add_argument("--seed", type=quantities.whole, default=0, help="seed of the rows (0)")
    referee.add_argument(
        "--shapes", action="append", metavar="SHAPE", help="shapes of batches, such as 8x257"
    )
    referee.add_argument(
        "--without-arb", action="store_true", help="compare only the float64 kernel with mpmath"
    )
    referee.set_defaults(command=_command("referee"))
    _add_memory(commands)
    _add_cliffs(commands)
    _add_campaigns(commands)
    _add_compare(commands)
    _add_report(commands)
    _add_replay(commands)
    return parser


def _add_report(commands: argparse._SubParsersAction[_OneLineParser]) -> None:
    report = commands.add_parser(
        "report",
        help="show a run or campaign again, a running one too, and export its figures",
        description="Read what a run or campaign has written, without changing it, also while it "
        "is running. Without options the report is printed, and written as report.html into the "
        "folder; with some, only what they name is written.",
    )
    report.set_defaults(command=_command("report"))
    report.add_argument("folder", type=Path, metavar="DIR", help="of a run or campaign")
    report.add_argument("--html", type=Path, metavar="FILE", help="write the page")
    _add_markdown(report)
    for option, text in (
        ("--parquet", "write the summaries and findings as Parquet files"),
        ("--tensorboard", "write error histograms and figures for TensorBoard"),
    ):
        report.add_argument(option, type=Path, metavar="DIR", help=text)
    report.add_argument(
        "--memory", type=Path, metavar="FILE", help="show what `lossfuzz memory --out` wrote, too"
    )
    report.add_argument("--quiet", action="store_true", help="print the verdict alone")


def _add_markdown(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="write a pull request's comment; - prints it alone",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
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


def _add_campaigns(commands: argparse._SubParsersAction[_OneLineParser]) -> None:
    resume = commands.add_parser(
        "resume",
        help="go on with a campaign that was interrupted",
        description="Go on with a campaign that was interrupted, by Ctrl-C, kill -9 or a full "
        "disk: what it had finished is kept, and its results are those of an uninterrupted one. A "
        "campaign is what `lossfuzz run --workers N` starts; another run cannot be resumed.",
    )
    resume.add_argument("out", type=Path, metavar="DIR", help="the campaign's folder")
    resume.add_argument(
        "--workers", type=quantities.workers, default=1, metavar="N", help="processes (1)"
    )
    _add_limits(resume)
    _add_trust(resume, programs=True)
    merge = commands.add_parser("merge", help="join campaigns of several machines or seeds")
    merge.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="their folders")
    merge.add_argument(
        "--out", type=Path, default=Path("lossfuzz-report"), help="folder of the joint report"
    )
    for parser, command in ((resume, "campaign:resume"), (merge, "campaign:merge")):
        parser.add_argument("--quiet", action="store_true", help="print the verdict alone")
        parser.add_argument(
            "--strict", action="store_true", help="exit with 1 if any cell has a defect"
        )
        parser.set_defaults(command=_command(command), fail_above=None)


def _add_trust(parser: argparse.ArgumentParser, *, programs: bool = False) -> None:
    """What of a stored run's code may run; all of it is named in a file that may be anybody's."""
    options = [
        ("--loss", "loss", "MODULE:FUNCTION", "let this loss of yours run, which the file names"),
        ("--as", "against", "MODULE:FORMULA", "and this formula that it is held against"),
    ]
    if programs:
        options.append(("--python", "python", "PATH", "and this interpreter"))
    for option, name, metavar, text in options:
        parser.add_argument(option, dest=name, action="append", metavar=metavar, help=text)
    parser.add_argument(
        "--trust",
        action="store_true",
        help="let all code run that the file names, from the folders that it names, too",
    )


def _add_compare(commands: argparse._SubParsersAction[_OneLineParser]) -> None:
    compare = commands.add_parser(
        "compare",
        help="tell which cells got better or worse from one run to another",
        description="Compare two campaigns or runs, cell by cell. Exits with 1 if a cell got "
        "worse or no longer runs. The same seed and shapes compare exactly; others by tests that "
        "do not take noise for a regression.",
    )
    compare.set_defaults(command=_command("compare"))
    for name, metavar in (("before", "A"), ("after", "B")):
        compare.add_argument(
            name, type=Path, metavar=metavar, help="a campaign's folder, or a results.json"
        )
    compare.add_argument(
        "--level",
        type=float,
        default=0.01,
        help="chance of a false alarm, over all cells and measures (0.01)",
    )
    compare.add_argument("--json", type=Path, metavar="FILE", help="write the comparison as JSON")
    compare.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page with both runs' distributions"
    )
    _add_markdown(compare)
    compare.add_argument("--quiet", action="store_true", help="print the verdict alone")


def _add_replay(commands: argparse._SubParsersAction[_OneLineParser]) -> None:
    replay = commands.add_parser(
        "replay",
        help="run one finding again, and say whether it still stands",
        description="Run one finding again on this machine. Exits with 0 if it still stands, 1 if "
        "it is gone or changed to another kind, 2 if it cannot be run here, 3 if its exact values "
        "are not those that are computed now.",
    )
    replay.set_defaults(command=_command("replay"))
    replay.add_argument(
        "finding",
        metavar="FINDING",
        help="FOLDER#ID or FOLDER#NUMBER, as reports print them (an id's first four digits do; "
        "cause-NUMBER for a cause's row); FILE#ID of what pytest's --lossfuzz-save wrote; a file "
        "with a finding's JSON record, such as json.dumps(defect.finding.to_json()) of the "
        "LossDefect that lossfuzz.check raises; - for standard input",
    )
    for option, text in (
        ("--script", "write it as a script of its own, which exits with 1 while it stands"),
        ("--issue", "write it as a text to be filed upstream; runs that script for its output"),
    ):
        replay.add_argument(
            option, nargs="?", const="-", metavar="FILE", help=f"{text} (standard output)"
        )
    replay.add_argument("--device", help="instead of the finding's own, such as GPU:0")
    _add_trust(replay)
    replay.add_argument(
        "--time-limit",
        type=quantities.seconds,
        default=300.0,
        metavar="SECONDS",
        help="a crash's, timeout's or script's process that takes longer is ended (300)",
    )
    replay.add_argument(
        "--memory-limit",
        type=quantities.mebibytes,
        metavar="MIB",
        help="memory of such a process (no limit)",
    )


def _add_memory(commands: argparse._SubParsersAction[_OneLineParser]) -> None:
    memory = commands.add_parser(
        "memory",
        help="measure peak memory and time of loss and gradient, by route",
        description="Peak bytes above the inputs as multiples of the logits' size, and time as a "
        "multiple of the fused kernel's in the same run.",
    )
    memory.set_defaults(command=_command("memory"))
    _add_cells(memory)
    memory.add_argument(
        "--shape", default="64x512x1000", help="of the logits, classes last (64x512x1000)"
    )
    memory.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")


def _add_cliffs(commands: argparse._SubParsersAction[_OneLineParser]) -> None:
    cliffs = commands.add_parser(
        "cliffs",
        help="find the exact margins at which gradient and loss break",
        description="For each cell the first margin, to the last number of the format, at which "
        "the gradient vanishes or loses the label, or the loss stops growing, collapses or is "
        "not finite; for a label that loses by the margin and one that wins by it.",
    )
    cliffs.set_defaults(command=_command("cliffs"))
    _add_cells(cliffs)
    cliffs.add_argument(
        "--classes",
        type=quantities.whole,
        default=2,
        help="of a row, all but the label's equal (2)",
    )
    cliffs.add_argument("--out", type=Path, metavar="FILE", help="write the cliffs as JSON")


def _add_cells(parser: argparse.ArgumentParser) -> None:
    for option, metavar, text in (
        ("--losses", "PATTERN", _LOSSES),
        ("--paths", "PATTERN", "loss paths by name or shell pattern (all)"),
        ("--formats", "FORMAT", "float16, bfloat16, float32 (float32)"),
        ("--modes", "MODE", "eager, graph, xla (all three)"),
    ):
        parser.add_argument(option, action="append", metavar=metavar, help=text)
    parser.add_argument("--device", default="CPU:0", help="such as GPU:0 (CPU:0)")


def _add_run(commands: argparse._SubParsersAction[_OneLineParser]) -> None:
    run = commands.add_parser(
        "run",
        help="run loss paths on extreme logits and measure them",
        description="Run every chosen cell (path, format, mode, device) on the same batches, "
        "measure loss and gradient against exact values, and write a report.",
    )
    run.set_defaults(command=_command("run"))
    chosen = run.add_argument_group("what to run (each may be repeated, or be a comma list)")
    for option, metavar, text in (
        ("--losses", "PATTERN", _LOSSES),
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
    _add_markdown(run)
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
    _add_limits(run)
    run.add_argument("--quiet", action="store_true", help="print the verdict alone")


def _version() -> str:
    from lossfuzz import __version__

    return __version__


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    """The function that carries out a command, imported when it is called.

    Args:
        name: of the module in `commands`, and of the command where a module has several.
    """
    module, _, command = name.partition(":")

    def carried_out(options: argparse.Namespace) -> int:
        found = importlib.import_module(f"lossfuzz.commands.{module}")
        return int(getattr(found, f"{command or module}_command")(options))

    return carried_out
