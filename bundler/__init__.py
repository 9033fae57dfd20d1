"""The connected side: from a recipe to sealed media. Imports `media` only."""
