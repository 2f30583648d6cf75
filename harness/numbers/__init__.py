"""Float formats, units in the last place, and how numbers are laid out and written."""
