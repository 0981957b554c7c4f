"""Numbers from the authors' code, for the tests to compare ours with: a module per network, run by make_goldens.py."""
