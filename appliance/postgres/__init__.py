"""How a PostgreSQL server is reached and what it has to promise; the only folder that imports its driver."""
