"""The isolated side: from media to proven answers. Imports `media` only."""
