"""`state.db`: a projection of the ledger that can be thrown away and rebuilt."""
