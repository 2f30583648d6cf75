"""Losses as lists of tensor operations, and their exact values and gradients."""
