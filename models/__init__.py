"""The networks, torch only: one file each with its dims and its training loss."""
