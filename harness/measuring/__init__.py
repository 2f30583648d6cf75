"""From a batch to its measurement."""
