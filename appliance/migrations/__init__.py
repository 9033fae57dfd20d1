"""The schema history of `state.db`; alembic reads this folder, nothing of ours imports it."""
