"""Training pairs for InstructPix2Pix in four stages: captions, pictures, filter, sheet (arXiv 2211.09800, sec. 3.1).

    python -m any2pix.datagen.pairs.captions --toyland 400 --out data/captions
    python -m any2pix.datagen.pairs.pictures --captions data/captions --out data/pictures --guidance 3 7
    python -m any2pix.datagen.pairs.filter --pictures data/pictures --out data/pairs
    python -m any2pix.datagen.pairs.sheet --pairs data/pairs --out sheet.html
    python -m any2pix.training.train_instructpix2pix --recipe sd15 --set data.shards=data/pairs

Each resumes where it was stopped, and continues once the stage before it has more shards. With `--writer`, `--model`
and `--embedder` the same runs on a language model, a Stable Diffusion and a CLIP of full size.
"""
