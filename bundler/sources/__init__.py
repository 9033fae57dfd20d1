"""Where a payload comes from: each module brings artifacts pinned by digest, and says what they were made of."""
