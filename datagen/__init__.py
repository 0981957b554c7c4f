"""Toyland: the miniature world of pictures, sounds and edit instructions."""
