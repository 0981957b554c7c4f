"""InstructPix2Pix (arXiv 2211.09800) and SDEdit (arXiv 2108.01073): edits by words alone."""
