"""What is measured, and how: formats, exact values, loss paths, measurements and findings."""
