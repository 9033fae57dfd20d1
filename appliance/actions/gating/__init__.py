"""The gates themselves: each a function from one bench to one verdict."""
