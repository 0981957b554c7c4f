"""The kind of a weight file, recognised by its keys, and its folder: one table, which all errors use."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """``marks``: a file is of this kind when each of them occurs in some key. ``folder``: below ComfyUI's models/."""

    title: str
    folder: str
    marks: tuple[str, ...]
    source: str = ""


# Order matters: the first kind whose marks all occur wins, so the particular comes before the general.
KINDS = {
    "imagebind": Kind(
        "an ImageBind checkpoint",
        "any2pix/imagebind",
        ("modality_trunks.",),
        "Put imagebind_huge.pth of facebookresearch/ImageBind in models/any2pix/imagebind, or choose the miniature.",
    ),
    "llm": Kind(
        "an InstructAny2Pix language model",
        "any2pix/llm",
        ("vae_projector_image.",),
        "Put the folder llm-retrained of the InstructAny2Pix release in models/any2pix/llm, or choose the miniature.",
    ),
    "prior": Kind(
        "an InstructAny2Pix refinement prior",
        "any2pix/prior",
        ("input_sequence_embed_linear.",),
        "Put prior/model.bin of the InstructAny2Pix release in models/any2pix/prior, or choose the miniature.",
    ),
    "two_view": Kind(
        "a two-view IP-Adapter file",
        "any2pix/adapter",
        ("ip_adapter.", "image_proj.raw_embed"),
        "Put ip_adapter_global_local_2_view.bin of the InstructAny2Pix release in models/any2pix/adapter.",
    ),
    "ip_adapter": Kind(
        "an IP-Adapter of another project, for the nodes of the IPAdapter packs",
        "ipadapter",
        ("ip_adapter.", "image_proj."),
    ),
    "lora": Kind("a LoRA", "loras", ("lora_",)),
    "lora_peft": Kind("a LoRA", "loras", (".lora_A",)),
    "controlnet": Kind("a ControlNet", "controlnet", ("controlnet_",)),
    "controlnet_ldm": Kind("a ControlNet", "controlnet", ("input_hint_block.",)),
    "checkpoint": Kind("a whole Stable Diffusion checkpoint", "checkpoints", ("model.diffusion_model.",)),
    "unet": Kind(
        "a UNet in diffusers format",
        "any2pix/unet",
        ("conv_in.", "down_blocks.", "time_embedding."),
        "Put a diffusers UNet (diffusion_pytorch_model.safetensors) in models/any2pix/unet, or choose the miniature.",
    ),
    # Their keys are those of any UNet: what they are is said in the metadata.
    "text_unet": Kind(
        "a text-conditioned UNet of the miniature",
        "any2pix/unet",
        ("conv_in.", "down_blocks.", "time_embedding."),
        "Train it with python -m any2pix.training.train_text_diffusion.",
    ),
    "pix2pix": Kind(
        "an InstructPix2Pix UNet",
        "any2pix/pix2pix",
        ("conv_in.", "down_blocks.", "time_embedding."),
        "Put the folder of an InstructPix2Pix in diffusers format in models/any2pix/pix2pix, or choose the miniature.",
    ),
    "adapter": Kind(
        "an unCLIP projector file",
        "any2pix/adapter",
        ("projector_unclip.", "projector_unclip2."),
        "Put the projector that was trained with the UNet in models/any2pix/adapter, or choose the miniature.",
    ),
    "vae": Kind(
        "a VAE",
        "vae",
        ("encoder.", "decoder."),
        "Put a VAE in models/vae, or choose the miniature.",
    ),
    "clip_vision": Kind("a CLIP vision encoder", "clip_vision", ("vision_model.",)),
    "text_encoder": Kind(
        "a text encoder",
        "text_encoders",
        ("text_model.",),
        "Use the one that was trained with the UNet: a file of this pack, or a text_encoder folder in transformers "
        "format.",
    ),
    "language_model": Kind(
        "a plain language model without InstructAny2Pix's projectors", "text_encoders", ("lm_head.",)
    ),
    "judge": Kind(
        "the attribute judge of the evaluation",
        "any2pix/judge",
        ("judge.",),
        "Train it with python -m any2pix.training.train_judge.",
    ),
    # What artists save, `saved.py`.
    "references": Kind(
        "a reference library",
        "any2pix/references",
        ("any2pix_reference.",),
        "Save it with Save References; R refreshes the list.",
    ),
    "embedding": Kind(
        "a saved embedding",
        "any2pix/embeddings",
        ("any2pix_embedding",),
        "Save it with Save Embedding; R refreshes the list.",
    ),
    "inversion": Kind(
        "a saved inversion",
        "any2pix/inversions",
        ("any2pix_inversion.",),
        "Save it with Save Inversion; R refreshes the list.",
    ),
}

DIGITS = 9  # of a block's number; a longer one is no number


def count_blocks(keys: Iterable[str], prefix: str) -> int:
    """How many numbered modules the keys name below ``prefix``, counted from 0."""
    numbers = {key[len(prefix) :].partition(".")[0] for key in keys if key.startswith(prefix)}
    return 1 + max((int(number) for number in numbers if number.isdecimal() and len(number) <= DIGITS), default=-1)


def recognise(keys: Iterable[str]) -> str | None:
    """The first kind of KINDS whose marks all occur in ``keys``, or None."""
    keys = list(keys)
    for name, kind in KINDS.items():
        if all(any(mark in key for key in keys) for mark in kind.marks):
            return name
    return None
