"""Backups: what a lost box comes back from, together with its media."""
