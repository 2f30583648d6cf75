"""Whether messages show what they claim: every planted loss's script, pasted and run.

For each planted loss of tests/planted the message of `lossfuzz.check` is made, its script is run
in a process that has TensorFlow and the planted modules, and what it prints is held against what
the message says. Prints a line for each loss, and what differs.
"""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatchcase
from pathlib import Path

from lossfuzz.harness.backend import start_tensorflow

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / "planted")]

from planted_collection import PLANTED  # noqa: E402 - of the tests
from planted_messages import faults_of, message_of, outputs_of  # noqa: E402 - of the tests


def main() -> None:
    """Check all that were asked for; exit with 1 if a script does not show what it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", metavar="PATTERN", help="names of losses")
    parser.add_argument("--mode", action="append", choices=("eager", "graph", "xla"))
    parser.add_argument("--rows", type=int, help="for each cell")
    options = parser.parse_args()
    start_tensorflow()
    chosen = [
        one
        for one in PLANTED
        if not options.only or any(fnmatchcase(one.name, pattern) for pattern in options.only)
    ]
    messages = [message_of(one, options.mode or ("eager",), options.rows) for one in chosen]
    outputs = outputs_of([one.script for one in messages])
    wrong = 0
    for message, output in zip(messages, outputs, strict=True):
        faults = faults_of(message, output)
        wrong += bool(faults)
        finding = message.finding
        told = "nothing found"
        if finding is not None:
            told = f"{finding.kind}, {len(finding.logits)} classes"
        if finding is not None and finding.batch_rows > 1:
            told += f", {finding.batch_rows} rows"
        told += f", {len(message.text)} characters, {message.seconds:.1f} s"
        print(f"{message.name}: {told}", *(f"\n    {fault}" for fault in faults))
    print(f"{wrong} of {len(messages)} messages do not show what they claim")
    raise SystemExit(int(wrong > 0))


if __name__ == "__main__":
    main()
