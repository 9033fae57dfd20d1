"""What time it is on a machine whose clock nobody vouches for: a floor, a watch over steps, and a verdict."""
