"""What users and strangers may do to lossfuzz, as tables of data, and what must come of it."""
