"""The formats, by what their rows have in common."""
