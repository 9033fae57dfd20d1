"""The content-addressed store: what was received, proven byte by byte, and never changed afterwards."""
