"""Where the bundled checkpoint lies and what its files are called.

The options that suit it are the defaults of `stages.any2pix.options.EditOptions`, and of `TextEditOptions` and
`SDEditOptions` in `stages.pix2pix.pipeline`.
"""

from collections.abc import Mapping
from pathlib import Path

NAME = "miniature"  # what loader nodes and commands call it
FOLDER = Path(__file__).resolve().parent

IMAGEBIND = "imagebind.safetensors"
LLM = "llm.safetensors"
PRIOR = "prior.safetensors"
UNET = "unet.safetensors"  # reads embeddings, by the adapter
ADAPTER = "adapter.safetensors"
VAE = "vae.safetensors"  # of every UNet here
TEXT_UNET = "text_unet.safetensors"  # paints captions
TEXT_ENCODER = "text_encoder.safetensors"  # of the captions
PIX2PIX = "pix2pix.safetensors"
PIX2PIX_TEXT_ENCODER = "pix2pix_text_encoder.safetensors"  # of the instructions
JUDGE = "judge.safetensors"  # of the evaluation; paints nothing
TRAINING = "training.json"  # what each training reported

# Kind of what a loader node offers -> its file.
OFFERED: Mapping[str, str] = {
    "imagebind": IMAGEBIND,
    "llm": LLM,
    "prior": PRIOR,
    "adapter": ADAPTER,
    "unet": UNET,
    "pix2pix": PIX2PIX,
}
OF_NODES = (*OFFERED.values(), VAE, PIX2PIX_TEXT_ENCODER)  # without these the nodes cannot run
EVERY = (*OF_NODES, TEXT_UNET, TEXT_ENCODER, JUDGE)
