"""Debian's archives as a source: signatures, indexes, versions."""
