"""InstructAny2Pix: edit a picture by an instruction that mixes words, pictures and sounds."""
