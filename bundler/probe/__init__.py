"""What a machine says of itself before a release is made for it."""
