"""The command line's parser: every command with its options."""

from __future__ import annotations

import argparse
from pathlib import Path

from lossfuzz import quantities
from lossfuzz.run_parser import LOSSES, OneLineParser, add_limits, add_markdown, add_run, command

EXIT_CODES = """\
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


def command_line() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = OneLineParser(
        prog="lossfuzz",
        description="Fuzz TensorFlow's and Keras's losses against exact values and gradients.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lossfuzz {_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add_run(commands)
    listing = commands.add_parser("paths", help="list the loss paths and the cells they make")
    listing.set_defaults(command=command("paths"))
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
    referee.set_defaults(command=command("referee"))
    _add_memory(commands)
    _add_cliffs(commands)
    _add_campaigns(commands)
    _add_compare(commands)
    _add_report(commands)
    _add_replay(commands)
    return parser


def _add_report(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    report = commands.add_parser(
        "report",
        help="show a run or campaign again, a running one too, and export its figures",
        description="Read what a run or campaign has written, without changing it, also while it "
        "is running. Without options the report is printed, and written as report.html into the "
        "folder; with some, only what they name is written.",
    )
    report.set_defaults(command=command("report"))
    report.add_argument("folder", type=Path, metavar="DIR", help="of a run or campaign")
    report.add_argument("--html", type=Path, metavar="FILE", help="write the page")
    add_markdown(report)
    for option, text in (
        ("--parquet", "write the summaries and findings as Parquet files"),
        ("--tensorboard", "write error histograms and figures for TensorBoard"),
    ):
        report.add_argument(option, type=Path, metavar="DIR", help=text)
    report.add_argument(
        "--memory", type=Path, metavar="FILE", help="show what `lossfuzz memory --out` wrote, too"
    )
    report.add_argument("--quiet", action="store_true", help="print the verdict alone")


def _add_campaigns(commands: argparse._SubParsersAction[OneLineParser]) -> None:
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
    add_limits(resume)
    _add_trust(resume, programs=True)
    merge = commands.add_parser("merge", help="join campaigns of several machines or seeds")
    merge.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="their folders")
    merge.add_argument(
        "--out", type=Path, default=Path("lossfuzz-report"), help="folder of the joint report"
    )
    for parser, name in ((resume, "campaign:resume"), (merge, "campaign:merge")):
        parser.add_argument("--quiet", action="store_true", help="print the verdict alone")
        parser.add_argument(
            "--strict", action="store_true", help="exit with 1 if any cell has a defect"
        )
        parser.set_defaults(command=command(name), fail_above=None)


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


def _add_compare(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    compare = commands.add_parser(
        "compare",
        help="tell which cells got better or worse from one run to another",
        description="Compare two campaigns or runs, cell by cell. Exits with 1 if a cell got "
        "worse or no longer runs. The same seed and shapes compare exactly; others by tests that "
        "do not take noise for a regression.",
    )
    compare.set_defaults(command=command("compare"))
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
    add_markdown(compare)
    compare.add_argument("--quiet", action="store_true", help="print the verdict alone")


def _add_replay(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    replay = commands.add_parser(
        "replay",
        help="run one finding again, and say whether it still stands",
        description="Run one finding again on this machine. Exits with 0 if it still stands, 1 if "
        "it is gone or changed to another kind, 2 if it cannot be run here, 3 if its exact values "
        "are not those that are computed now.",
    )
    replay.set_defaults(command=command("replay"))
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


def _add_memory(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    memory = commands.add_parser(
        "memory",
        help="measure peak memory and time of loss and gradient, by route",
        description="Peak bytes above the inputs as multiples of the logits' size, and time as a "
        "multiple of the fused kernel's in the same run.",
    )
    memory.set_defaults(command=command("memory"))
    _add_cells(memory)
    memory.add_argument(
        "--shape", default="64x512x1000", help="of the logits, classes last (64x512x1000)"
    )
    memory.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")


def _add_cliffs(commands: argparse._SubParsersAction[OneLineParser]) -> None:
    cliffs = commands.add_parser(
        "cliffs",
        help="find the exact margins at which gradient and loss break",
        description="For each cell the first margin, to the last number of the format, at which "
        "the gradient vanishes or loses the label, or the loss stops growing, collapses or is "
        "not finite; for a label that loses by the margin and one that wins by it.",
    )
    cliffs.set_defaults(command=command("cliffs"))
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
        ("--losses", "PATTERN", LOSSES),
        ("--paths", "PATTERN", "loss paths by name or shell pattern (all)"),
        ("--formats", "FORMAT", "float16, bfloat16, float32 (float32)"),
        ("--modes", "MODE", "eager, graph, xla (all three)"),
    ):
        parser.add_argument(option, action="append", metavar=metavar, help=text)
    parser.add_argument("--device", default="CPU:0", help="such as GPU:0 (CPU:0)")


def _version() -> str:
    from lossfuzz import __version__

    return __version__
