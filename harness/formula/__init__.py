"""A user's own formula: value, exact gradient and what rounding explains, from one function."""
