"""Where ledger and state lie: checked, migrated both ways, moved between files and a PostgreSQL server."""
