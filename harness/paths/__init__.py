"""The loss paths as users write them: one declarative table per API."""
