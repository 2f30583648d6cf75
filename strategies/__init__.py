"""What is generated: floats of every format, recipes of batches, and Hypothesis strategies."""
