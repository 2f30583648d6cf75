"""Running cells, here or in another interpreter."""
