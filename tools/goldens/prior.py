"""The released refinement prior as its pipeline calls it: every source, several scores, guidance, padded prompts."""

import sys
import types
from pathlib import Path
from unittest.mock import patch

import torch
import transformers
from golden_inputs import seeded
from golden_inputs.prior import END, PROMPT, SEED, SIZES, START, WORD_IDS, clip_arguments, source_embedding

from . import authors

SCORES = (1.0, 4.25, 6.5, 10.0)
GUIDANCES = (0.0, 1.0, 10.0)


class WordTokenizer:
    """Stands in for CLIP's tokenizer, whose vocabulary is not at hand: known words, padded with the end token."""

    def __call__(self, prompts, **_):
        rows = [[START, *(WORD_IDS[word] for word in prompt.split()), END] for prompt in prompts]
        longest = max(map(len, rows))
        ids = [row + [END] * (longest - len(row)) for row in rows]
        mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
        return types.SimpleNamespace(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask))


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
