"""What every record is written and read by."""
