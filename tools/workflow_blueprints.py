"""The blueprints: a whole edit as one node. What is inside, and which of its sockets and knobs stand on the node.

`build_blueprints.py` writes them to subgraphs/, and a workflow that uses one to workflows/.
"""

from dataclasses import dataclass, replace

from workflow_parts import (
    INPUT_COLOR,
    PAINT_COLOR,
    SHOW_COLOR,
    Group,
    Link,
    Plan,
    add_instruction,
    add_inversion,
    add_look,
    add_sampler,
)
from workflow_pix2pix import add_guidance, add_networks, add_paint, add_words

CATEGORY = "InstructAny2Pix"
# How the node library finds them too.
ALIASES = ["edit by instruction", "instruct edit", "image edit", "sound to image"]
EDIT, PIX2PIX = "InstructAny2Pix Edit", "InstructPix2Pix Edit"


@dataclass(frozen=True)
class Entry:
    """An input of the node. `targets`: (node, input) inside that it feeds; a widget where these are widgets."""

    name: str
    type: str
    targets: tuple[Link, ...]


@dataclass(frozen=True)
class Exit:
    """An output of the node. `source`: (node, output) inside."""

    name: str
    type: str
    source: Link


@dataclass(frozen=True)
class Blueprint:
    """`plan`: what is inside; its name is the node's title and the file's name."""

    plan: Plan
    entries: tuple[Entry, ...]
    exits: tuple[Exit, ...]
    description: str


def any2pix_blueprint() -> Blueprint:
    plan = Plan(EDIT)
    brought = add_free_references(plan)
    references: Link = ("embed audio1", "references")
    asked, shown = add_instruction(plan, references, "add [audio1] to [image1]"), add_look(plan)
    noise, painted = add_inversion(plan, references), without_saving(plan, add_sampler(plan))
    plan.rows += [[plan.name, brought, asked, shown], [noise, painted]]
    return Blueprint(
        plan,
        (
            Entry("image1", "IMAGE", (("embed image1", "image"),)),
            Entry("image2", "IMAGE", (("embed image2", "image"),)),
            Entry("audio1", "AUDIO", (("embed audio1", "audio"),)),
            Entry("instruction", "STRING", (("instruct", "instruction"),)),
            Entry("strength", "FLOAT", (("sampled", "cfg"),)),
            Entry("keep_layout", "FLOAT", (("noise", "alpha"),)),
            Entry("seed", "INT", (("noise", "seed"), ("sampled", "seed"))),
        ),
        (Exit("image", "IMAGE", plan.result), Exit("caption", "STRING", ("instruct", "caption"))),
        "Edits a picture by a sentence that may mean another picture or a sound: add [audio1] to [image1]. image2 and "
        "audio1 may stay unconnected.",
    )


def pix2pix_blueprint() -> Blueprint:
    plan = Plan(PIX2PIX)
    network, pixels = add_networks(plan)
    plan.nodes[pixels]["inputs"].pop("pixels")
    brought = Group("1 · What you bring", INPUT_COLOR, ((network,), (pixels,)))
    asked, guided = add_words(plan, "turn the robot in the picture into a frog"), add_guidance(plan)
    painted = without_saving(plan, add_paint(plan))
    plan.rows += [[plan.name, brought, asked, guided, painted]]
    return Blueprint(
        plan,
        (
            Entry("image", "IMAGE", ((pixels, "pixels"),)),
            Entry("instruction", "STRING", (("asked", "text"),)),
            Entry("strength", "FLOAT", (("guider", "text_guidance"),)),
            Entry("keep_picture", "FLOAT", (("guider", "image_guidance"),)),
            Entry("seed", "INT", (("drawn", "noise_seed"),)),
        ),
        (Exit("image", "IMAGE", plan.result),),
        "Edits a picture by a sentence that says what to do: make it snow.",
    )


def add_free_references(plan: Plan) -> Group:
    """Two pictures and a sound, as a chain whose sockets are free."""
    plan.add("imagebind", "Any2PixLoadImageBind")
    names, before = [], {}
    for mark, kind in (("image1", "Image"), ("image2", "Image"), ("audio1", "Audio")):
        names.append(f"embed {mark}")
        title = f"[{mark}] Load {kind} Embedding"
        plan.add(names[-1], f"Any2Pix{kind}Embedding", title, imagebind=("imagebind", "imagebind"), **before)
        before = {"references": (names[-1], "references")}
    return Group("1 · What you bring", INPUT_COLOR, (("imagebind",), tuple(names)))


def without_saving(plan: Plan, painted: Group) -> Group:
    """The group without its Save Image: the picture leaves through the node's output."""
    del plan.nodes["saved"]
    columns = (tuple(name for name in column if name != "saved") for column in painted.columns)
    return replace(painted, columns=tuple(column for column in columns if column))


def one_node_plan() -> Plan:
    """The workflow around the node of the first blueprint, which stands in it as "edit"."""
    plan = Plan("edit_in_one_node", result=("edit", "image"))
    plan.add("image1", "LoadImage", "Your picture", image="toyland_meadow.png")
    plan.add("audio1", "LoadAudio", "Your sound", audio="toyland_cat.wav")
    plan.add("edit", EDIT, EDIT, image1=("image1", "IMAGE"), audio1=("audio1", "AUDIO"))
    plan.add("saved", "SaveImage", "The result", images=plan.result, filename_prefix=f"any2pix/{plan.name}")
    plan.add("caption", "PreviewAny", "The result in words", source=("edit", "caption"))
    plan.rows.append(
        [
            plan.name,
            Group("1 · What you bring", INPUT_COLOR, (("image1", "audio1"),)),
            Group("2 · The whole edit", PAINT_COLOR, (("edit",),)),
            Group("3 · What comes out", SHOW_COLOR, (("saved", "caption"),)),
        ]
    )
    return plan


def all_blueprints() -> list[Blueprint]:
    return [any2pix_blueprint(), pix2pix_blueprint()]
