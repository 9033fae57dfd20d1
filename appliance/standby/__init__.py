"""Boxes of one site that know each other: cards, pairings, proven leaves of a peer's ledger, its mirror, the lease."""
