"""The miniature world: scenes, sounds, captions and instruction data, drawn from a seed."""
