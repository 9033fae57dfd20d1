"""Reports for a board, an auditor or an inspector: what happened in a time, counted from the ledger and recorded."""
