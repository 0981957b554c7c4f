"""Where the nodes, notes and groups of a workflow stand: rows of groups, nodes in columns.

All numbers are in the page's pixels at zoom 1.
"""

from dataclasses import dataclass

from workflow_parts import Group, Plan

BYPASSED = 4  # the page's mode of a node that is switched off
LOADERS = ("Any2PixLoad", "CheckpointLoader", "LoraLoader")  # how the types of nodes begin that read a weight file
LOADER_COLORS = ("#323", "#535")  # the page's own purple
NODE_TITLE, GROUP_TITLE = 30, 58
PADDING, NODE_GAP, COLUMN_GAP, GROUP_GAP = 20, 24, 36, 50

WIDTH = 260
WIDTHS = {
    "Any2PixInstruct": 380,
    "Any2PixLoadLLM": 380,
    "PreviewImage": 520,
    "CLIPTextEncode": 300,
    "StringConcatenate": 300,
    "StringReplace": 300,
    "PrimitiveStringMultiline": 300,
}
WIDTHS |= {"CheckpointLoaderSimple": 300, "LoraLoaderModelOnly": 300}
WIDTHS |= dict.fromkeys(("Any2PixImageEmbedding", "Any2PixAudioEmbedding", "Any2PixTextEmbedding"), 300)
# Nodes that show a picture, a player or a text need more room than their widgets; at least what the page will ask for once
# they show it, or a building would depend on how fast a picture came.
HEIGHTS = {
    "LoadImage": 320,
    "LoadAudio": 140,
    "SaveImage": 290,
    "PreviewImage": 320,
    "Any2PixInstruct": 400,
    "Any2PixRetrieveBase": 240,
    "Any2PixPickReference": 200,
    "Any2PixTextEmbedding": 140,
    "Any2PixLoadLLM": 216,
    "Any2PixLoadDiffusion": 204,
    "Any2PixLoadInstructPix2Pix": 228,
}
# A loader shows below its widgets what it loaded, four lines.
HEIGHTS |= dict.fromkeys(("Any2PixLoadImageBind", "Any2PixLoadPrior", "Any2PixLoadAdapter"), 192)
NOTE_WIDTH, NOTE_LINE, NOTE_MARGIN, NOTE_LETTERS = 380, 13, 40, 80  # letters to a line


@dataclass(frozen=True)
class Box:
    """`pos`: the corner at the top left, below the title of a node; `size`: width, height."""

    pos: tuple[float, float]
    size: tuple[float, float]
    title: str = ""
    color: str = ""


@dataclass
class Layout:
    nodes: dict[str, Box]
    notes: dict[str, Box]
    groups: list[Box]


def place(plan: Plan, measured: dict[str, list[float]], notes: dict[str, str]) -> Layout:
    """`measured`: name of a node -> width and height that the page asks for it; `notes`: name -> its text."""
    layout, y = Layout({}, {}, []), 0.0
    for row in plan.rows:
        x, lowest = 0.0, y
        for stack in row:
            top, widest = y, 0.0
            for item in stack if isinstance(stack, tuple) else (stack,):
                if isinstance(item, Group):
                    width, height = place_group(layout, plan, item, measured, x, top)
                else:
                    width, height = place_note(layout, item, notes[item], x, top)
                top += height + GROUP_GAP
                widest = max(widest, width)
            x += widest + GROUP_GAP
            lowest = max(lowest, top)
        y = lowest
    return layout


def place_group(
    layout: Layout, plan: Plan, group: Group, measured: dict, left: float, top: float
) -> tuple[float, float]:
    """Puts the group and its nodes into the layout -> the group's width and height."""
    x, bottom = left + PADDING, top
    for column in group.columns:
        width = max(WIDTHS.get(plan.nodes[name]["class_type"], WIDTH) for name in column)
        y = top + GROUP_TITLE + NODE_TITLE
        for name in column:
            height = max(measured[name][1], HEIGHTS.get(plan.nodes[name]["class_type"], 0))
            layout.nodes[name] = Box((x, y), (width, height))
            y += height + NODE_GAP + NODE_TITLE
        bottom = max(bottom, y - NODE_GAP - NODE_TITLE)
        x += width + COLUMN_GAP
    size = (x - COLUMN_GAP + PADDING - left, bottom + PADDING - top)
    layout.groups.append(Box((left, top), size, group.title, group.color))
    return size


def place_note(layout: Layout, name: str, text: str, left: float, top: float) -> tuple[float, float]:
    """As tall as its text: every line of Markdown as many lines as its letters fill -> width and height."""
    lines = [1 + len(line) // NOTE_LETTERS + line.startswith("#") for line in text.strip().splitlines()]
    size = (NOTE_WIDTH, NOTE_MARGIN + NOTE_LINE * sum(lines))
    layout.notes[name] = Box((left, top + NODE_TITLE), size, "Knobs" if name.startswith("knobs") else "Read me")
    return NOTE_WIDTH, size[1] + NODE_TITLE
