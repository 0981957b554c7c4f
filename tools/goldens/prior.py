"""The released refinement prior as its pipeline calls it: every source, several scores, guidance, padded prompts."""

import sys
import types
from pathlib import Path
from unittest.mock import patch

import torch
import transformers

from . import authors, seeded

SEED = 21
SCORES = (1.0, 4.25, 6.5, 10.0)
GUIDANCES = (0.0, 1.0, 10.0)
INPUT_NORM = 100.0  # the released pipeline's
PROMPT = "a cat in the rain"
START, END = 49406, 49407
WORD_IDS = {word: 1000 + 7 * index for index, word in enumerate(PROMPT.split())}
SIZES = {
    "small": dict(embed=64, width=64, layers=3, heads=4, clip_width=32, clip_layers=2, clip_heads=2),
    "wide": dict(embed=1024, width=1024, layers=2, heads=16, clip_width=1024, clip_layers=2, clip_heads=16),
}


def clip_arguments(size: dict) -> dict:
    """Arguments of CLIPTextConfig; the rest is as in CLIP ViT-H/14."""
    return {
        "vocab_size": 49408,
        "hidden_size": size["clip_width"],
        "intermediate_size": 4 * size["clip_width"],
        "num_hidden_layers": size["clip_layers"],
        "num_attention_heads": size["clip_heads"],
        "max_position_embeddings": 77,
        "hidden_act": "gelu",
        "bos_token_id": START,
        "eos_token_id": END,
    }


class WordTokenizer:
    """Stands in for CLIP's tokenizer, whose vocabulary is not at hand: known words, padded with the end token."""

    def __call__(self, prompts, **_):
        rows = [[START, *(WORD_IDS[word] for word in prompt.split()), END] for prompt in prompts]
        longest = max(map(len, rows))
        ids = [row + [END] * (longest - len(row)) for row in rows]
        mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
        return types.SimpleNamespace(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask))


def source_embedding(embed: int) -> torch.Tensor:
    """(1, embed), of length INPUT_NORM."""
    embedding = seeded.draw("prior input", (1, embed), SEED)
    return embedding / embedding.norm() * INPUT_NORM


def make(options, size: str) -> None:
    """Write prior_<size>.safetensors: an output (embed,) per source/score/guidance."""
    released = import_released(options.instructany2pix)
    model = build(released, SIZES[size])
    seeded.fill(model, SEED)
    model.eval()
    outputs = {}
    kind = released.MODALITY
    given, nothing = source_embedding(SIZES[size]["embed"]), torch.zeros(1, 1, SIZES[size]["embed"])
    for score in SCORES:
        outputs[f"video/{score}/10.0"] = _run(model, kind.VIDEO, given, score, 10.0)
    for guidance in GUIDANCES:
        outputs[f"video/6.5/{guidance}"] = _run(model, kind.VIDEO, given, 6.5, guidance)
    for name in ("IMAGE", "AUDIO"):
        outputs[f"{name.lower()}/6.5/10.0"] = _run(model, getattr(kind, name), given, 6.5, 10.0)
    outputs["text/6.5/10.0"] = _run(model, kind.TEXT, [PROMPT], 6.5, 10.0, given[None])
    outputs["text alone/6.5/10.0"] = _run(model, kind.TEXT, [PROMPT], 6.5, 10.0, nothing)
    seeded.save(f"prior_{size}", outputs, {"seed": SEED, **options.notes("instructany2pix")})


def _run(model, source, given, score, guidance, overwrite=None) -> torch.Tensor:
    torch.manual_seed(SEED)
    found, _ = model.generate_diffusion(
        source, 0, given, device="cpu", no_diffusion=True, image_bind_overwrite=overwrite, dtype=torch.float32,
        guidance_scale=guidance, force_guidence_t0=True, do_classifier_free_guidance=True, score=score,
    )  # fmt: skip
    return found[0, 0]


def build(released, size: dict):
    """InstructAny2PixPrior at these sizes: what it would download is made from configurations instead."""
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000, clip_sample=False,
        steps_offset=1, timestep_spacing="leading", prediction_type="epsilon",
    )  # fmt: skip
    gpt2 = transformers.GPT2Config(n_embd=size["width"], n_layer=size["layers"], n_head=size["heads"], vocab_size=1)
    clip = transformers.CLIPTextModel(transformers.CLIPTextConfig(**clip_arguments(size)))
    config = dict(released.prior_config, embed_dim=size["width"], output_dim=size["width"])
    config["sequence_input_embed_dim"] = [0, size["embed"], size["clip_width"], 512, 0, 0, 0]
    with (
        patch.object(released.DDPMScheduler, "from_pretrained", lambda *_, **__: scheduler),
        patch.object(released.GPT2Config, "from_pretrained", lambda *_, **__: gpt2),
        patch.object(released.AutoTokenizer, "from_pretrained", lambda *_, **__: WordTokenizer()),
        patch.object(released.CLIPTextModel, "from_pretrained", lambda *_, **__: clip),
    ):
        model = released.InstructAny2PixPrior(**config)
    model.device = "cpu"
    return model


def import_released(repository: Path):
    """instructany2pix.prior.model, with prior_config of its package."""
    authors.package("instructany2pix", repository / "instructany2pix")
    from instructany2pix.prior import model, prior_config

    model.prior_config = prior_config
    sys.modules.setdefault("instructany2pix.prior.model", model)
    return model
