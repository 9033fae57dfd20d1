"""Where and how a candidate is rehearsed: what its models showed, a whole system that boots, and the way onto it."""
