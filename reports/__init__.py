"""What is shown: tables, made first and purely, then rendered for terminal and browser."""
