"""Writes findings.md: defects of TensorFlow's and Keras's losses, each found by running.

``python docs/findings.py`` searches for every entry, takes the row that the search found, runs
its script and its check by hand, and pastes what they print. An entry that no longer shows stops
it, so that the document never tells of what has been mended.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from search import found
from section import section
from sigmoid_entries import SIGMOID_ENTRIES
from softmax_entries import SOFTMAX_ENTRIES

from lossfuzz.harness.backend import versions

_ENTRIES = {entry.title: entry for entry in (*SOFTMAX_ENTRIES, *SIGMOID_ENTRIES)}
