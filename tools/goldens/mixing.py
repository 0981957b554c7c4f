"""The released pipeline's own lines that mix embeddings and latents, run with stand-ins for its networks."""

import types
from unittest.mock import patch

from golden_inputs import seeded
from golden_inputs.mixing import ALPHAS, MIXES, SEED, inputs
from PIL import Image
from torch import Tensor

from . import llm


def make(options) -> None:
    """Write mixing.safetensors: "h0/h1/h2/norm" -> mixed embedding (1024,), "polar/alpha" -> mixed latent."""
    pipeline = llm.import_pipeline(options)
    released, given = pipeline.InstructAny2PixPipeline, inputs()
    outputs = {}
    for *h, norm in MIXES:
        outputs["/".join(map(str, (*h, norm)))] = _call(released, given, h=h, norm=norm)["latent_la"].flatten()
    for alpha in ALPHAS:
        outputs[f"polar/{alpha}"] = _call(released, given, alpha=alpha)["latent_inv"]
    seeded.save("mixing", outputs, {"seed": SEED, **options.notes("instructany2pix")})


def _call(released, given: dict[str, Tensor], **arguments) -> dict:
    """What InstructAny2PixPipeline.__call__ hands on, its networks replaced by their outputs."""
    space = types.SimpleNamespace
    scheduler = space(config={})
    answer = given["edit"].view(1, 1, -1), given["base"].view(1, -1), "a cat", "picture", {"extra_idx": []}
    inverted = space(images=given["latent"])
    host = space(
        pipe=space(unet=None, scheduler=scheduler),
        pipe_inversion=space(inverse=lambda **_: inverted),
        forward_llm=lambda *_, **__: answer,
        model=space(generate_diffusion=lambda *_, **__: (given["refined"].view(1, 1, -1), {})),
        loas_base_img=lambda _: Image.new("RGB", (8, 8)),
        polar_intrtpolate=lambda *mixed: released.polar_intrtpolate(None, *mixed),
        ip_adapter_xl=space(generate=lambda **_: [Image.new("RGB", (8, 8))]),
    )
    with (
        patch("instructany2pix.pipeline.DDIMScheduler.from_config", lambda config: scheduler),
        patch("torch.randn_like", lambda like: given["noise"]),
    ):
        *_, found = released.__call__(host, "", [], refinement=0, debug=True, **arguments)
    return found
