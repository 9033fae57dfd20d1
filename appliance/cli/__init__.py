"""The `sealift` command: one file per command; each parses, calls one action and maps one error."""
