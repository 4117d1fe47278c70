"""Pages that a person wants to read."""
