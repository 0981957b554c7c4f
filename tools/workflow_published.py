"""The example workflows for the published weights: SDXL base with the two-view adapter of the retrained release.

What they are set to is what the authors' pipeline has by default.
"""

from any2pix.stages.any2pix.options import RELEASED_NEGATIVE, RELEASED_PROMPT
from workflow_data.published_files import ADAPTER, IMAGEBIND, LCM_LORA, LLM, PRIOR, SDXL_BASE, SDXL_REFINER, ModelFile
from workflow_parts import (
    LOOK_COLOR,
    NOISE_COLOR,
    PAINT_COLOR,
    REFINE_COLOR,
    WORDS_COLOR,
    Group,
    Link,
    Plan,
    Source,
    add_comparison,
    add_instruction,
    add_look,
    add_references,
    add_stock_sampler,
)

# Defaults of the released pipeline.
TEMPERATURE, PRIOR_GUIDANCE = 0.3, 10.0
STEPS, CFG, ALPHA, ITERATIONS = 25, 10.0, 0.7, 1
SCHEDULER = "ddim_uniform"  # the leading spacing with offset 1 of SDXL's own scheduler
REFINER_WORDS = ",high quality,well-formed,award-winning"
REFINER_STRENGTH, REFINER_CFG = 0.5, 5.0  # 5 is the default of the image-to-image pipeline that the release calls
REFINER_STEPS = 25  # half of that pipeline's 50: what a strength of 0.5 leaves of them

# LCM starts at the model's highest noise level, so the inversion has to end there: normal does, ddim_uniform does not.
LCM_SCHEDULER, LCM_SAMPLER_SCHEDULER = "normal", "sgm_uniform"
LCM_STEPS, LCM_CFG, LCM_INVERSION_STEPS = 8, 1.5, 10
MEGAPIXELS = 1.0  # what SDXL was trained at


def add_published_references(plan: Plan, *sources: Source) -> tuple[Group, Link]:
    brought, references = add_references(plan, *sources)
    choose(plan, "imagebind", IMAGEBIND)
    return brought, references


def choose(plan: Plan, loader: str, file: ModelFile) -> None:
    plan.nodes[loader]["inputs"]["name"] = file.name


def add_published_instruction(plan: Plan, references: Link, instruction: str) -> tuple[Group, Group]:
    """The LLM's plan and the embedding that is painted -> their two groups."""
    asked = add_instruction(plan, references, instruction)
    choose(plan, "llm", LLM)
    plan.nodes["instruct"]["inputs"]["temperature"] = TEMPERATURE
    shown = add_look(plan)
    choose(plan, "prior", PRIOR)
    plan.nodes["refined"]["inputs"]["guidance"] = PRIOR_GUIDANCE
    plan.nodes["mixed"]["inputs"]["formula"] = "released"
    return asked, shown


def add_words(plan: Plan) -> Group:
    """SDXL, and the texts beside the embedding."""
    plan.add("checkpoint", "CheckpointLoaderSimple", "Load Checkpoint (SDXL base)", ckpt_name=SDXL_BASE.name)
    plan.add(
        "prompt",
        "StringConcatenate",
        "Quality words and the caption",
        string_a=RELEASED_PROMPT,
        string_b=("instruct", "caption"),
        delimiter="",
    )
    plan.add("words", "CLIPTextEncode", "Positive", clip=("checkpoint", "CLIP"), text=("prompt", "STRING"))
    plan.add("avoid", "CLIPTextEncode", "Negative", clip=("checkpoint", "CLIP"), text=RELEASED_NEGATIVE)
    return Group("4 · The words beside it", WORDS_COLOR, (("checkpoint", "prompt"), ("words", "avoid")))


def add_published_inversion(plan: Plan, references: Link, steps: int, scheduler: str) -> Group:
    """The picture at SDXL's size, walked up with the plain model and the empty prompt, then mixed with fresh noise."""
    plan.add("base", "Any2PixRetrieveBase", references=references, base=("instruct", "base"))
    plan.add(
        "sized",
        "ImageScaleToTotalPixels",
        "To one megapixel",
        image=("base", "image"),
        upscale_method="lanczos",
        megapixels=MEGAPIXELS,
    )
    plan.add("encoded", "VAEEncode", pixels=("sized", "IMAGE"), vae=("checkpoint", "VAE"))
    plan.add("nothing", "CLIPTextEncode", "The empty prompt", clip=("checkpoint", "CLIP"), text="")
    plan.add(
        "inverted",
        "Any2PixDDIMInvert",
        model=("checkpoint", "MODEL"),
        conditioning=("nothing", "CONDITIONING"),
        latent=("encoded", "LATENT"),
        base=("base", "embedding"),
        steps=steps,
        scheduler=scheduler,
        iterations=ITERATIONS,
    )
    plan.add("noise", "Any2PixNoiseMix", latent=("inverted", "latent"), alpha=ALPHA, mode="polar")
    columns = (("base",), ("sized", "nothing"), ("encoded",), ("inverted",), ("noise",))
    return Group("5 · The picture to edit, as noise", NOISE_COLOR, columns)


def add_adapter(plan: Plan) -> None:
    plan.add("adapter", "Any2PixLoadAdapter")
    choose(plan, "adapter", ADAPTER)


def add_painter(plan: Plan) -> Group:
    """Our sampler, set as the release."""
    add_adapter(plan)
    plan.add(
        "sampled",
        "Any2PixSampler",
        model=("checkpoint", "MODEL"),
        adapter=("adapter", "adapter"),
        embedding=("mixed", "embedding"),
        latent=("noise", "latent"),
        positive=("words", "CONDITIONING"),
        negative=("avoid", "CONDITIONING"),
        steps=STEPS,
        cfg=CFG,
        scheduler=SCHEDULER,
    )
    return Group("6 · Paint", PAINT_COLOR, (("adapter",), ("sampled",), add_result(plan, ("sampled", "latent"))))


def add_lcm_painter(plan: Plan) -> Group:
    """A LoRA, another reading of the model's answer, and ComfyUI's LCM sampler: a few steps."""
    add_adapter(plan)
    plan.add("lora", "LoraLoaderModelOnly", model=("checkpoint", "MODEL"), lora_name=LCM_LORA.name, strength_model=1.0)
    plan.add("lcm", "ModelSamplingDiscrete", model=("lora", "MODEL"), sampling="lcm", zsnr=False)
    plan.add(
        "edit",
        "Any2PixApplyEmbedding",
        model=("lcm", "MODEL"),
        adapter=("adapter", "adapter"),
        embedding=("mixed", "embedding"),
        positive=("words", "CONDITIONING"),
        negative=("avoid", "CONDITIONING"),
    )
    add_stock_sampler(plan, LCM_STEPS, LCM_CFG, sampler_name="lcm", scheduler=LCM_SAMPLER_SCHEDULER)
    painted = add_result(plan, ("sampled", "LATENT"))
    columns = (("lora", "adapter"), ("lcm",), ("edit",), ("sampled",), painted)
    return Group("6 · Paint in eight steps", PAINT_COLOR, columns)


def add_result(plan: Plan, painted: Link) -> tuple[str, ...]:
    plan.add("decoded", "VAEDecode", samples=painted, vae=("checkpoint", "VAE"))
    plan.add("saved", "SaveImage", "The result", images=plan.result, filename_prefix=f"any2pix/{plan.name}")
    return ("decoded", "saved")


def add_refiner(plan: Plan) -> Group:
    """SDXL's refiner over the result's latent: both models share one VAE."""
    plan.add("refiner", "CheckpointLoaderSimple", "Load Checkpoint (SDXL refiner)", ckpt_name=SDXL_REFINER.name)
    plan.add(
        "praise",
        "StringConcatenate",
        "The caption and quality words",
        string_a=("instruct", "caption"),
        string_b=REFINER_WORDS,
        delimiter="",
    )
    plan.add("praised", "CLIPTextEncode", "Positive (refiner)", clip=("refiner", "CLIP"), text=("praise", "STRING"))
    plan.add("plain", "CLIPTextEncode", "Negative (refiner): nothing", clip=("refiner", "CLIP"), text="")
    plan.add(
        "finished",
        "KSampler",
        "KSampler (refiner)",
        model=("refiner", "MODEL"),
        positive=("praised", "CONDITIONING"),
        negative=("plain", "CONDITIONING"),
        latent_image=("sampled", "latent"),
        seed=0,
        steps=REFINER_STEPS,
        cfg=REFINER_CFG,
        sampler_name="euler",
        scheduler=SCHEDULER,
        denoise=REFINER_STRENGTH,
    )
    plan.add("redecoded", "VAEDecode", samples=("finished", "LATENT"), vae=("checkpoint", "VAE"))
    plan.result = ("redecoded", "IMAGE")
    plan.add("resaved", "SaveImage", "The refined result", images=plan.result, filename_prefix=f"any2pix/{plan.name}")
    columns = (("refiner", "praise"), ("praised", "plain"), ("finished",), ("redecoded", "resaved"))
    return Group("7 · Refine", REFINE_COLOR, columns)


def add_published_comparison(plan: Plan, number: int) -> Group:
    """The source at the result's size, and the result."""
    compared = add_comparison(plan)
    plan.nodes["scaled"]["inputs"] |= {"upscale_method": "lanczos", "megapixels": MEGAPIXELS}
    return Group(f"{number} · Look", LOOK_COLOR, compared.columns)


def published_plan(name: str, instruction: str, *sources: Source, lcm: bool = False, refined: bool = False) -> Plan:
    """The whole edit on the retrained release. `lcm`: few steps with the LCM LoRA. `refined`: the SDXL refiner after
    it."""
    plan = Plan(name)
    brought, references = add_published_references(plan, *sources)
    asked, shown = add_published_instruction(plan, references, instruction)
    knobs = "knobs of LCM" if lcm else "knobs of the published weights"
    schedule = (LCM_INVERSION_STEPS, LCM_SCHEDULER) if lcm else (STEPS, SCHEDULER)
    words, noise = add_words(plan), add_published_inversion(plan, references, *schedule)
    painted = add_lcm_painter(plan) if lcm else add_painter(plan)
    plan.rows.append([(name, knobs), brought, asked, (shown, words)])
    if refined:
        plan.rows.append([noise, painted, (add_refiner(plan), add_published_comparison(plan, 8))])
    else:
        plan.rows.append([noise, painted, add_published_comparison(plan, 7)])
    return plan
