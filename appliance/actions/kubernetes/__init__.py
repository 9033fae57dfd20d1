"""Outgrowing one box: a Helm chart of what is in production here, and what its pods run."""
