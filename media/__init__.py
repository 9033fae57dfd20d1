"""The medium: its format, its signatures, its custody. Imports nothing of ours."""
