"""Graphs in API format with something wrong in them, from a seed: mostly whole edits, a few places of which nobody
would choose."""

import copy
import random
from typing import Any

from harness.edit_graph import NODE_IDS, edit_graph, node, with_defaults
from harness.fuzz_values import LLM_WORDS, WORK
from harness.pix2pix_graph import text_edit, text_grid

FEW_STEPS = 2
MOST_CHANGES = 3
NUMBERS = (-1, 0, 1, 3, 0.5, 2**31, 2**63, -(2**70), 1e300, -1e-30, float("nan"), float("inf"), "3", "0.5", True)
TEXTS = (
    "",
    " ",
    "\0",
    "\ud83d",
    "../../../etc/passwd",
    "/etc/passwd",
    "C:\\x",
    "CON",
    "a/b/c",
    "%date%",
    "雪",
    "x" * 100_000,
)
THINGS = (None, [], {}, {"a": 1}, [1, 2, 3], ["nowhere", 0], ["nowhere"], [[]], "text", 7)
SLOTS = (0, 1, 2, 3, 4, 9, -1, "0", None)


class Graphs:
    """Draws graphs. ``object_info``: what the server tells of its nodes."""

    def __init__(self, object_info: dict):
        self.object_info = object_info
        self.whole = [
            self._few_steps(graph)
            for graph in (self._stored(), text_edit(object_info), text_grid(object_info, "4, 5", "1"))
        ]

    def draw(self, seed: int) -> dict:
        chance = random.Random(seed)
        graph = copy.deepcopy(chance.choice(self.whole))
        for _ in range(chance.randint(1, MOST_CHANGES)):
            ours = [name for name, body in graph.items() if body["class_type"] in NODE_IDS]
            change = chance.choice(
                (self._widget, self._widget, self._widget, self._wire, self._wire, self._thing, self._gone, self._other)
            )
            change(chance, graph, chance.choice(ours or list(graph)))
        self._drop_what_ends_the_host(graph)
        return graph

    def _stored(self) -> dict:
        """The whole edit with all that can be saved saved, and one reference picked from a text."""
        graph = edit_graph(self.object_info)
        graph["read"] = node("Any2PixTextEmbedding", imagebind=["imagebind", 0], text="a frog", references=["heard", 0])
        graph["picked"] = node("Any2PixPickReference", references=["read", 0], mark="text1")
        graph["kept references"] = node("Any2PixSaveReferences", references=["read", 0], name="fuzz")
        graph["kept embedding"] = node("Any2PixSaveEmbedding", embedding=["picked", 0], name="fuzz")
        graph["kept inversion"] = node("Any2PixSaveInversion", latent=["inverted", 0], name="fuzz")
        graph["loaded"] = node("Any2PixLoadEmbedding")
        graph["again"] = node("Any2PixSaveEmbedding", embedding=["loaded", 0], name="fuzz")
        return with_defaults(graph, self.object_info)

    @staticmethod
    def _few_steps(graph: dict) -> dict:
        for body in graph.values():
            body["inputs"] |= {name: FEW_STEPS for name in ("steps", "iterations") if name in body["inputs"]}
        return graph

    def _widget(self, chance: random.Random, graph: dict, name: str) -> None:
        """Another value: in its range, or none that a page would send."""
        widgets = {key: value for key, value in graph[name]["inputs"].items() if not isinstance(value, list)}
        if not widgets:
            return
        key = chance.choice(list(widgets))
        kind, options = self._declared(graph[name]["class_type"], key)
        if kind == "INT":
            inside = chance.randint(options.get("min", 0), min(options.get("max", 8), WORK.get(key, 2**60)))
            value = chance.choice((inside, inside, *NUMBERS))
        elif kind == "FLOAT":
            inside = chance.uniform(options.get("min", 0.0), options.get("max", 1.0))
            value = chance.choice((inside, inside, *NUMBERS))
        elif kind == "STRING":
            words = " ".join(chance.choice(LLM_WORDS) for _ in range(chance.randint(1, 5)))
            value = chance.choice((words, words, words, *TEXTS))
        else:
            value = chance.choice((*options.get("options", ()), *TEXTS, *NUMBERS))
        graph[name]["inputs"][key] = value

    @staticmethod
    def _wire(chance: random.Random, graph: dict, name: str) -> None:
        """An input from somewhere else, itself and what comes after it included."""
        if graph[name]["inputs"]:
            graph[name]["inputs"][chance.choice(list(graph[name]["inputs"]))] = [
                chance.choice(list(graph)),
                chance.choice(SLOTS),
            ]

    @staticmethod
    def _thing(chance: random.Random, graph: dict, name: str) -> None:
        if graph[name]["inputs"]:
            graph[name]["inputs"][chance.choice(list(graph[name]["inputs"]))] = chance.choice(THINGS)

    @staticmethod
    def _gone(chance: random.Random, graph: dict, name: str) -> None:
        """An input that is not connected, or a node that is not there."""
        inputs = graph[name]["inputs"]
        if inputs and chance.random() < 0.8:
            del inputs[chance.choice(list(inputs))]
        elif len(graph) > 1:
            del graph[name]

    @staticmethod
    def _other(chance: random.Random, graph: dict, name: str) -> None:
        """Another node of ours with these inputs, or these inputs with one more."""
        if chance.random() < 0.5:
            graph[name]["class_type"] = chance.choice(sorted(NODE_IDS))
        else:
            graph[name]["inputs"][chance.choice(("name", "recipe", "__class__", "self", "cls", "references"))] = (
                chance.choice(THINGS)
            )

    def _drop_what_ends_the_host(self, graph: dict) -> None:
        """Drops wires from nowhere to inputs that a node does not have: the host checks none of them, follows them, and
        its worker dies."""
        for body in graph.values():
            for key, value in list(body["inputs"].items()):
                is_wire = isinstance(value, list) and len(value) == 2
                if is_wire and value[0] not in graph and self._declared(body["class_type"], key)[0] == "":
                    del body["inputs"][key]

    def _declared(self, class_type: str, key: str) -> tuple[str, dict[str, Any]]:
        """Type and options of an input; of one that the node does not have, no type."""
        groups = self.object_info[class_type]["input"]
        kind, *options = {**groups.get("required", {}), **groups.get("optional", {})}.get(key, ("",))
        options = options[0] if options else {}
        return ("COMBO", {**options, "options": kind}) if isinstance(kind, list) else (kind, options)
