"""Sheets that people print, sign and file: one content, as PDF and as an HTML page without script."""
