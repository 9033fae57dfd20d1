"""Engines: how a model version is loaded, served on a Unix socket, and spoken to."""
