"""The whole collection: losses with a known defect, and twins that have none."""

from planted_binary import BINARY
from planted_corners import CORNERS
from planted_dense import DENSE
from planted_entry import Planted
from planted_focal import FOCAL
from planted_gradients import GRADIENTS
from planted_labels import LABELS
from planted_probabilities import PROBABILITIES
from planted_reductions import REDUCTIONS
from planted_shift import SHIFTS

PLANTED: tuple[Planted, ...] = (
    *SHIFTS,
    *PROBABILITIES,
    *DENSE,
    *BINARY,
    *FOCAL,
    *GRADIENTS,
    *LABELS,
    *REDUCTIONS,
    *CORNERS,
)
"""Losses with a known defect; their names are unique."""
