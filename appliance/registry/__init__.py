"""What may serve: immutable model versions, each one digest of everything that changes answers."""
