"""Training pairs for InstructPix2Pix in four stages: captions, pictures, filter, sheet (arXiv 2211.09800, sec. 3.1)."""
