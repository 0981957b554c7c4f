"""The example workflows for InstructPix2Pix: one edit by text, a grid over both guidances, and both systems side by
side."""

from dataclasses import replace

from any2pix.stages.pix2pix.pipeline import TextEditOptions
from workflow_parts import (
    ASK_COLOR,
    INPUT_COLOR,
    LOOK_COLOR,
    PAINT_COLOR,
    SHOW_COLOR,
    Group,
    Link,
    Plan,
    Source,
    add_comparison,
    add_instruction,
    add_inversion,
    add_look,
    add_references,
    add_sampler,
)

PICTURE: Link = ("image1", "IMAGE")
MINIATURE = TextEditOptions()  # what it edits best with
SAMPLER = "euler"
GRID_TEXT_GUIDANCES, GRID_IMAGE_GUIDANCES = "0, 1.5, 3, 8", "1, 2, 4"  # from the picture as it is to the whole edit
BASE_MARK, BASE_IN_WORDS = "[image1]", "the picture"


def text_plan(name: str, instruction: str, source: Source) -> Plan:
    """One picture, one instruction, one edit."""
    plan = Plan(name)
    brought = add_picture(plan, source)
    asked = add_words(plan, instruction)
    guided, painted = add_guidance(plan), add_paint(plan)
    look = add_comparison(plan, PICTURE, title="5 · Look")
    plan.rows += [[name, "knobs of InstructPix2Pix", brought, asked, guided], [painted, look]]
    return plan


def grid_plan(name: str, instruction: str, source: Source) -> Plan:
    """The same edit with every combination of guidances, in one run."""
    plan = Plan(name)
    brought = add_picture(plan, source)
    asked = add_words(plan, instruction)
    plan.add("values", "Any2PixGridValues", x_values=GRID_TEXT_GUIDANCES, y_values=GRID_IMAGE_GUIDANCES)
    guided = add_guidance(plan, ("values", "x"), ("values", "y"))
    guided = replace(guided, columns=(("values",), *guided.columns))
    plan.add("grid", "Any2PixLabelledGrid", images=("decoded", "IMAGE"), axes=("values", "axes"))
    plan.result = ("grid", "image")
    painted = add_paint(plan, "grid")
    plan.add("compared", "PreviewImage", "All combinations", images=plan.result)
    look = Group("5 · Look", LOOK_COLOR, (("compared",),))
    plan.rows += [[name, "knobs of the grid", brought, asked, guided], [painted, look]]
    return plan


def beside_plan(name: str, instruction: str, source: Source) -> Plan:
    """InstructPix2Pix and InstructAny2Pix with one picture and one instruction, which marks the picture."""
    plan = Plan(name)
    brought, references = add_references(plan, source)
    plan.add("instruction", "PrimitiveStringMultiline", "The instruction", value=instruction)
    said = ("instruction", "STRING")
    plan.add("in words", "StringReplace", "The mark in words", string=said, find=BASE_MARK, replace=BASE_IN_WORDS)
    asked = Group("2 · What you ask for", ASK_COLOR, (("instruction", "in words"),))
    plan.rows.append([name, "knobs of both", brought, asked])

    planned = [
        add_instruction(plan, references, said),
        add_look(plan),
        add_inversion(plan, references),
        add_sampler(plan),
    ]
    titles = ("the instruction", "what the result shows", "the picture as noise", "paint")
    planned = [replace(group, title=f"InstructAny2Pix: {title}") for group, title in zip(planned, titles, strict=True)]
    plan.rows += [planned[:2], planned[2:]]
    theirs, plan.result = plan.result, ("edited", "IMAGE")

    network, pixels = add_networks(plan)
    words = add_words(plan, ("in words", "STRING"))
    words = replace(words, columns=((network,), (pixels,), *words.columns))
    groups = [words, add_guidance(plan), add_paint(plan, names=("painted", "edited", "kept"))]
    titles = ("the instruction", "knobs", "paint")
    groups = [replace(group, title=f"InstructPix2Pix: {title}") for group, title in zip(groups, titles, strict=True)]
    look = add_comparison(
        plan, PICTURE, theirs, title="3 · Look", shown="Your picture, InstructAny2Pix, InstructPix2Pix"
    )
    plan.rows.append([*groups, look])
    return plan


def add_picture(plan: Plan, source: Source) -> Group:
    """The picture and the networks."""
    plan.add("image1", "LoadImage", source.title, image=source.content)
    network, pixels = add_networks(plan)
    return Group("1 · What you bring", INPUT_COLOR, (("image1", network), (pixels,)))


def add_networks(plan: Plan) -> tuple[str, str]:
    """The networks and the picture as their latent; returns the names of their nodes."""
    plan.add("pix2pix", "Any2PixLoadInstructPix2Pix")
    plan.add("pixels", "VAEEncode", pixels=PICTURE, vae=("pix2pix", "vae"))
    return "pix2pix", "pixels"


def add_words(plan: Plan, instruction: str | Link) -> Group:
    """The instruction, and the empty prompt that it is compared with."""
    plan.add("asked", "CLIPTextEncode", "The instruction", text=instruction, clip=("pix2pix", "clip"))
    plan.add("unasked", "CLIPTextEncode", "The empty prompt (leave it empty)", text="", clip=("pix2pix", "clip"))
    return Group("2 · What you ask for", ASK_COLOR, (("asked", "unasked"),))


def add_guidance(
    plan: Plan,
    text_guidance: float | Link = MINIATURE.text_guidance,
    image_guidance: float | Link = MINIATURE.image_guidance,
) -> Group:
    plan.add(
        "guider",
        "Any2PixInstructPix2PixGuider",
        model=("pix2pix", "model"),
        positive=("asked", "CONDITIONING"),
        negative=("unasked", "CONDITIONING"),
        image=("pixels", "LATENT"),
        text_guidance=text_guidance,
        image_guidance=image_guidance,
    )
    return Group("3 · How strongly", SHOW_COLOR, (("guider",),))


def add_paint(plan: Plan, *last: str, names: tuple[str, str, str] = ("sampled", "decoded", "saved")) -> Group:
    """ComfyUI's own sampling with a guider. `last`: nodes between the picture and its file; `names`: of the nodes that
    sample, decode and save."""
    sampled, decoded, saved = names
    plan.add("drawn", "RandomNoise", noise_seed=0)
    plan.add("walk", "KSamplerSelect", sampler_name=SAMPLER)
    plan.add(
        "levels",
        "BasicScheduler",
        model=("pix2pix", "model"),
        scheduler=MINIATURE.scheduler,
        steps=MINIATURE.steps,
        denoise=1.0,
    )
    plan.add(
        sampled,
        "SamplerCustomAdvanced",
        noise=("drawn", "NOISE"),
        guider=("guider", "guider"),
        sampler=("walk", "SAMPLER"),
        sigmas=("levels", "SIGMAS"),
        latent_image=("guider", "latent"),
    )
    plan.add(decoded, "VAEDecode", samples=(sampled, "output"), vae=("pix2pix", "vae"))
    plan.add(saved, "SaveImage", "The result", images=plan.result, filename_prefix=f"any2pix/{plan.name}")
    shown = ((decoded, *last), (saved,)) if last else ((decoded, saved),)
    return Group("4 · Paint", PAINT_COLOR, (("drawn", "walk", "levels"), (sampled,), *shown))
