"""InstructAny2Pix (arXiv 2312.06738): the pipeline that runs its steps in a batch."""
