"""Putting a stored release into place on a host, and running its units."""
