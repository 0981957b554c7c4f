"""The example workflows: their parts and where these stand. `build_workflows.py` writes them to workflows/."""

from dataclasses import replace

from workflow_parts import (
    NOISE_COLOR,
    PAINT_COLOR,
    SHOW_COLOR,
    SIZE,
    Group,
    Plan,
    Source,
    add_comparison,
    add_edit_mask,
    add_instruction,
    add_inversion,
    add_look,
    add_lora_and_controlnet,
    add_references,
    add_sampler,
    add_stock_sampler,
)
from workflow_pix2pix import beside_plan, grid_plan, text_plan
from workflow_published import published_plan
from workflow_without_llm import NAME, without_llm_plan


def edit_plan(name: str, instruction: str, *sources: Source, masked: bool = False) -> Plan:
    """The whole edit: references, instruction, look, noise, paint. `masked`: image1 comes with a mask."""
    plan = Plan(name)
    brought, references = add_references(plan, *sources)
    plan.rows.append([(name, "knobs"), brought, add_instruction(plan, references, instruction), add_look(plan)])
    mask = ("image1", "MASK") if masked else None
    plan.rows.append([add_inversion(plan, references, mask), add_sampler(plan, mask=mask), add_comparison(plan)])
    return plan


def keeping_plan(name: str, instruction: str, *sources: Source) -> Plan:
    """The whole edit, under the mask that it finds."""
    plan = Plan(name)
    brought, references = add_references(plan, *sources)
    plan.rows.append(
        [(name, "knobs of the mask"), brought, add_instruction(plan, references, instruction), add_look(plan)]
    )
    noise = add_inversion(plan, references)
    found, mask, latent = add_edit_mask(plan)
    painted = replace(add_sampler(plan, mask=mask, latent=latent), title="6 · Paint")
    plan.rows.append([noise, found, painted, add_comparison(plan, title="7 · Look")])
    return plan


def stock_plan(name: str, instruction: str, *sources: Source) -> Plan:
    """The edit with ComfyUI's own sampler, and places for a LoRA and a ControlNet."""
    plan = Plan(name)
    brought, references = add_references(plan, *sources)
    asked = add_instruction(plan, references, instruction)
    shown, noise = add_look(plan), add_inversion(plan, references)
    added = add_lora_and_controlnet(plan)
    plan.rows.append([(name, "knobs of the stock sampler"), brought, asked, (shown, added)])
    plan.add(
        "edit",
        "Any2PixApplyEmbedding",
        "Apply Embedding (the result)",
        model=("lora", "MODEL"),
        adapter=("adapter", "adapter"),
        embedding=("mixed", "embedding"),
        positive=("guided", "positive"),
        negative=("guided", "negative"),
    )
    add_stock_sampler(plan, steps=25, cfg=3.0, sampler_name="euler", scheduler="normal")
    painted = add_sampler(plan, ("sampled", "LATENT"), (("edit",), ("sampled",)))
    plan.rows.append([noise, painted, add_comparison(plan)])
    return plan


def sound_to_picture() -> Plan:
    """No instruction and no source: what is heard, through the prior, painted from noise four times."""
    plan = Plan("sound_to_picture")
    brought, references = add_references(plan, Source("audio", "toyland_frog.wav", "Your sound"))
    plan.add("heard", "Any2PixRetrieveBase", "Base Retrieval (takes the sound)", references=references, blank_size=SIZE)
    plan.add("prior", "Any2PixLoadPrior")
    plan.add(
        "refined",
        "Any2PixRefine",
        prior=("prior", "prior"),
        embedding=("heard", "embedding"),
        source="audio",
        guidance=1.0,
    )
    heard = Group("2 · From sound to picture", SHOW_COLOR, (("heard", "prior"), ("refined",)))
    plan.add("adapter", "Any2PixLoadAdapter")
    plan.add("diffusion", "Any2PixLoadDiffusion")
    plan.add("empty", "EmptyLatentImage", "Four empty pictures", width=SIZE, height=SIZE, batch_size=4)
    painter = Group("3 · The painter", NOISE_COLOR, (("adapter", "diffusion", "empty"),))
    plan.add(
        "sampled",
        "Any2PixSampler",
        model=("diffusion", "model"),
        adapter=("adapter", "adapter"),
        embedding=("refined", "refined"),
        latent=("empty", "LATENT"),
        cfg=2.0,
    )
    plan.add("decoded", "VAEDecode", samples=("sampled", "latent"), vae=("diffusion", "vae"))
    plan.add(
        "saved", "SaveImage", "What was heard", images=("decoded", "IMAGE"), filename_prefix=f"any2pix/{plan.name}"
    )
    painted = Group("4 · Paint", PAINT_COLOR, (("sampled",), ("decoded", "saved")))
    plan.rows.append([plan.name, brought, heard, painter, painted])
    return plan


MEADOW = Source("image", "toyland_meadow.png", "Your picture")
ROBOT = Source("image", "toyland_robot.png", "Your picture")
CAT = Source("audio", "toyland_cat.wav", "Your sound")


def all_plans() -> list[Plan]:
    """Every example workflow."""
    return [
        edit_plan("edit_with_sound", "add [audio1] to [image1]", MEADOW, CAT),
        edit_plan(
            "edit_with_picture",
            "put what is in [image2] into [image1]",
            MEADOW,
            Source("image", "toyland_robot.png", "Another picture"),
        ),
        edit_plan(
            "edit_with_three_references",
            "add [audio1] to [image1] and let it feel like [text1]",
            MEADOW,
            Source("audio", "toyland_frog.wav", "Your sound"),
            Source("text", "falling snow", ""),
        ),
        edit_plan(
            "style_from_picture",
            "draw [image1] in the style of [image2]",
            Source("image", "toyland_beach.png", "Your picture"),
            Source("image", "toyland_ink.png", "A picture in the style you want"),
        ),
        sound_to_picture(),
        stock_plan("edit_with_stock_sampler", "add [audio1] to [image1]", MEADOW, CAT),
        edit_plan(
            "masked_edit",
            "give [image1] the weather of [audio1]",
            Source("image", "toyland_masked.png", "Your picture, with a mask"),
            Source("audio", "toyland_snow.wav", "Your sound"),
            masked=True,
        ),
        keeping_plan("keep_the_rest", "add [audio1] to [image1]", MEADOW, CAT),
        without_llm_plan(NAME, MEADOW, "a cat in the meadow on a sunny day, flat style"),
        text_plan("edit_by_text", "turn the robot in the picture into a frog", ROBOT),
        grid_plan("edit_by_text_grid", "turn the robot in the picture into a frog", ROBOT),
        beside_plan("edit_by_text_beside", "turn the robot in [image1] into a frog", ROBOT),
        published_plan("published_edit", "add [audio1] to [image1]", MEADOW, CAT),
        published_plan("published_edit_lcm", "add [audio1] to [image1]", MEADOW, CAT, lcm=True),
        published_plan("published_edit_refiner", "add [audio1] to [image1]", MEADOW, CAT, refined=True),
    ]
