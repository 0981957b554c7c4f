"""Numbers from the authors' code, for the tests to compare ours with: one module per network, run by make_goldens.py."""
