"""Writes findings.md: defects of TensorFlow's and Keras's losses, each found by running.

``python docs/findings.py`` searches for every entry, takes the row that the search found, runs
its script and its check by hand, and pastes what they print. An entry that no longer shows stops
it, so that the document never tells of what has been mended. Titles' parts given as arguments
choose entries, whose sections are then printed instead.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import sigmoid_entries as sigmoid
import softmax_entries as softmax
from search import found
from section import section

from lossfuzz.harness.backend import versions

ENTRIES = (
    softmax.MASKED,
    sigmoid.WEIGHTED_AT_ZERO,
    softmax.SMOOTHED_OTHER_AXIS,
    softmax.MIXED_PRECISION_SOFTMAX,
    sigmoid.MIXED_PRECISION_SIGMOID,
    sigmoid.SIGMOID_IN_HALF,
    softmax.GENERALISED,
    sigmoid.FOCAL_POWER,
    softmax.KL_IN_HALF,
    softmax.IGNORING_FORGETS,
    softmax.FOCAL_CLIPS,
    softmax.CLIPPED_IN_HALF,
    softmax.MEAN_IN_HALF,
    sigmoid.MEAN_IN_HALF,
    sigmoid.REWRITTEN_LOG,
    softmax.FAR_APART,
    sigmoid.ASYMMETRIC_CLIP,
)
"""Most harmful first: silent before loud, ordinary logits before extreme ones."""

_HEAD = """\
<!-- fmt: off -->

# Defects found by running

{count} defects beside those of plain sparse categorical cross-entropy, by our judgement most
harmful first. Each was found by lossfuzz on the CPU, with {versions}.

`python docs/findings.py` wrote this page: it ran every path named here on generated logits in
every format and mode, took a row of the kind, made it small, and pasted what the two scripts of
its section print. If a defect no longer shows, or a check by hand disagrees, it stops. Rows,
values, tables and line numbers are measured; titles, causes and advice are written by hand.

How to read it: each section's families, shape and number of rows were chosen, and for some
changed more than once, so that its defect shows by itself. So a table says where *these* rows
show it, not how often rows in general do, and *none* is no proof that a path is sound. Of a
loss over a batch, the row shown is one of the worst whose copies show the same, preferably one
that does not even keep to the documented formula; of a wide one it is levelled to one number.

A table's row names a *loss path* (`lossfuzz paths` lists them), its cells the modes that show the
kind.

{contents}

"""


def main(patterns: list[str]) -> None:
    """Write the document, or print the sections whose titles contain one of the patterns."""
    chosen = [
        entry
        for entry in ENTRIES
        if not patterns or any(pattern in entry.title for pattern in patterns)
    ]
    sections = []
    for number, entry in enumerate(chosen, 1):
        started = time.perf_counter()
        sections.append(section(number, found(entry)))
        print(f"{time.perf_counter() - started:.0f} s: {entry.title}", file=sys.stderr)
    if patterns:
        print("\n".join(sections))
        return
    known = versions()
    head = _HEAD.format(
        count=len(chosen),
        versions=", ".join(
            f"{name} {known[key]}"
            for name, key in (
                ("TensorFlow", "tensorflow"),
                ("Keras", "keras"),
                ("tf_keras", "tf_keras"),
            )
        ),
        contents="\n".join(f"{n}. {entry.title}" for n, entry in enumerate(chosen, 1)),
    )
    Path(__file__).with_name("findings.md").write_text(head + "\n".join(sections))


if __name__ == "__main__":
    main(sys.argv[1:])
