"""Shrinking: the simplest row that shows the same finding in the same cell, found in batches."""

from lossfuzz.shrinking.shrink import shrunk

__all__ = ["shrunk"]
