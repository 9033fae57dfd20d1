"""Files and batches: many requests handed in at once, answered behind everybody else, kept encrypted and for a time."""
