"""Exact values: a certified float64 kernel, its mpmath judge, and Arb as the second referee."""
