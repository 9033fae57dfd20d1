"""Going forward takes two people: statements, approvals, promotions, and the one process that records them."""
