"""Training of every network: python -m any2pix.training.X"""
