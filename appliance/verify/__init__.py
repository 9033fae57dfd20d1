"""The trust boundary: turns mounted volumes into a `VerifiedRelease` or one typed refusal. No database, no network."""
