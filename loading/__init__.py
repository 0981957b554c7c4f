"""Checkpoint files -> networks: layouts, key maps, strict checks."""
