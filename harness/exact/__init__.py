"""The exact values of losses and gradients."""
