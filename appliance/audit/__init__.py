"""The ledger: append-only leaves, a Merkle tree over them, signed checkpoints; and the ways to write and read it."""
