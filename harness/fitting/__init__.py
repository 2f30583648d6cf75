"""How a user's own loss is called, and what it takes."""
