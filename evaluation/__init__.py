"""Measurements: a judge of attributes, the quality of edits, sweeps over the knobs."""
