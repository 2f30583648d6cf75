"""What the command line reports in one line."""


class UsageError(Exception):
    """Something that the user asked for cannot be done; the message is one line."""
