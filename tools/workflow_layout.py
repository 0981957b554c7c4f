"""Where the nodes, notes and groups of a workflow stand: rows of groups, nodes in columns.

All numbers are in the page's pixels at zoom 1.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import workflow_sizes as sizes
from workflow_parts import Group, Item, Plan
from workflow_sizes import NODE_TITLE

BYPASSED = 4  # the page's mode of a node that is switched off
LOADERS = ("Any2PixLoad", "CheckpointLoader", "LoraLoader")  # how the types of nodes begin that read a weight file
LOADER_COLORS = ("#323", "#535")  # the page's own purple
NOTE_COLORS = ("#333", "#222")  # dark: Vue nodes write notes in grey and their links in blue
GROUP_TITLE, GROUP_LETTER = 58, 12  # with room for the pack's badge above a node; the width of a letter
PADDING, NODE_GAP, COLUMN_GAP, GROUP_GAP, ROW_GAP = 30, 48, 80, 80, 110  # wires run in between

Stack = tuple[Item, ...]


@dataclass(frozen=True)
class Box:
    """`pos`: the corner at the top left, below the title of a node; `size`: width, height; `room`: height drawn either
    way."""

    pos: tuple[float, float]
    size: tuple[float, float]
    room: float = 0.0
    title: str = ""
    color: str = ""


@dataclass
class Layout:
    nodes: dict[str, Box]
    notes: dict[str, Box]
    groups: list[Box]

    def taken(self) -> dict[str, tuple[float, float, float, float]]:
        """Left, top, right and bottom of every node and note with its title."""
        boxes = {**self.nodes, **self.notes}
        return {
            name: (
                box.pos[0],
                box.pos[1] - NODE_TITLE,
                box.pos[0] + box.size[0],
                box.pos[1] + max(box.size[1], box.room),
            )
            for name, box in boxes.items()
        }

    def titles(self) -> list[tuple[float, float, float, float]]:
        """Where the groups' titles stand."""
        corners = [(box.pos, len(box.title) * GROUP_LETTER) for box in self.groups]
        return [(x, y, x + width, y + GROUP_TITLE / 2) for (x, y), width in corners]


def place(plan: Plan, measured: dict[str, list[float]], notes: dict[str, str]) -> Layout:
    """`measured`: name of a node -> width and height that the page asks for it; `notes`: name -> its text."""
    layout, y = Layout({}, {}, []), 0.0

    def put(into: Layout, stack: Stack, left: float, top: float) -> tuple[float, float]:
        """Puts a stack into a layout -> its width, where its room ends below."""
        widest = 0.0
        for item in stack:
            if isinstance(item, Group):
                width, height = place_group(into, plan, item, measured, left, top)
            else:
                width, height = place_note(into, item, notes[item], left, top)
            top += height + GROUP_GAP
            widest = max(widest, width)
        return widest, top

    for row in plan.rows:
        stacks = [stack if isinstance(stack, tuple) else (stack,) for stack in row]
        x, lowest = 0.0, y
        for stack in lowered(stacks, lambda stack: put(Layout({}, {}, []), stack, 0.0, 0.0)[1]):
            width, bottom = put(layout, stack, x, y)
            x += width + GROUP_GAP
            lowest = max(lowest, bottom)
        y = lowest + ROW_GAP - GROUP_GAP
    return layout


def lowered(stacks: list[Stack], height: Callable[[Stack], float]) -> Iterator[Stack]:
    """The stacks of a row; notes stand beside each other where they would be much taller than the groups."""
    groups = max((height(stack) for stack in stacks if isinstance(stack[0], Group)), default=0.0)
    for stack in stacks:
        if isinstance(stack[0], Group) or height(stack) <= groups + ROW_GAP:
            yield stack
        else:
            yield from ((note,) for note in stack)


def place_group(
    layout: Layout, plan: Plan, group: Group, measured: dict, left: float, top: float
) -> tuple[float, float]:
    """Puts the group and its nodes into the layout -> the group's width and height."""
    x, bottom = left + PADDING, top
    for column in group.columns:
        width = max(sizes.width(plan.nodes[name]["class_type"]) for name in column)
        y = top + GROUP_TITLE + NODE_TITLE
        for name in column:
            class_type, asked = plan.nodes[name]["class_type"], measured[name][1]
            room = sizes.room(class_type, asked)
            layout.nodes[name] = Box((x, y), (width, sizes.height(class_type, asked)), room)
            y += room + NODE_GAP + NODE_TITLE
        bottom = max(bottom, y - NODE_GAP - NODE_TITLE)
        x += width + COLUMN_GAP
    size = (x - COLUMN_GAP + PADDING - left, bottom + PADDING - top)
    layout.groups.append(Box((left, top), size, 0.0, group.title, group.color))
    return size


def place_note(layout: Layout, name: str, text: str, left: float, top: float) -> tuple[float, float]:
    """A note as tall as its text -> width and height of the room for it."""
    size, room = (sizes.NOTE_WIDTH, sizes.note_height(text)), sizes.note_room(text)
    layout.notes[name] = Box((left, top + NODE_TITLE), size, room, "Knobs" if name.startswith("knobs") else "Read me")
    return size[0], room + NODE_TITLE
