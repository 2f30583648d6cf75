"""Campaigns: a plan cut into tasks, done by worker processes, kept in a store, resumable."""
