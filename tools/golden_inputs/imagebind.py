"""What ImageBind is given: pictures, sounds and token rows."""

import torch

PICTURES = ((256, 300, 1), (333, 225, 2))  # height, width, seed
SOUNDS = ((52800, 16000, 3), (145531, 44100, 4), (17640, 22050, 5))  # samples, rate, seed: 3.3 s, 3.3 s, 0.8 s
TEXTS = ((320, 2368), (539, 1929, 525, 1237, 269), tuple(range(1000, 1090)))  # without start and end; the last is cut
START, END, CONTEXT = 49406, 49407, 77
EVERY = 8  # of the prepared pictures and mels only each eighth row and column is kept
SIZES = {
    "small": dict(
        out_embed_dim=64, vision_embed_dim=64, vision_num_blocks=3, vision_num_heads=4, audio_embed_dim=48,
        audio_num_blocks=3, audio_num_heads=4, text_embed_dim=32, text_num_blocks=3, text_num_heads=4,
    ),
    "wide": dict(
        out_embed_dim=1024, vision_embed_dim=1280, vision_num_blocks=2, vision_num_heads=16, audio_embed_dim=768,
        audio_num_blocks=2, audio_num_heads=12, text_embed_dim=1024, text_num_blocks=2, text_num_heads=16,
    ),
    "full": dict(
        out_embed_dim=1024, vision_embed_dim=1280, vision_num_blocks=32, vision_num_heads=16, audio_embed_dim=768,
        audio_num_blocks=12, audio_num_heads=12, text_embed_dim=1024, text_num_blocks=24, text_num_heads=16,
    ),
}  # fmt: skip
SEED = 20


def token_rows() -> torch.Tensor:
    """(3, 77) int64: start, ids, end, zeros; the last text is too long and cut, as the authors' tokenizer cuts it."""
    rows = torch.zeros(len(TEXTS), CONTEXT, dtype=torch.long)
    for row, ids in zip(rows, TEXTS, strict=True):
        ids = [START, *ids][: CONTEXT - 1] + [END]
        row[: len(ids)] = torch.tensor(ids)
    return rows
