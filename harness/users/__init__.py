"""Users' code: one door to call it by, and our own state kept meanwhile."""
