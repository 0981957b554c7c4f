"""What the nodes that save and load references, embeddings and inversions have in common."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import io, ui
from torch import Tensor

from ..loading.errors import file_error
from ..loading.kinds import KINDS
from ..loading.saved import SUFFIX, Saved, clean_name, read_saved, write_saved
from .host.folders import MINIATURE, find_weights, folder_key
from .host.host_options import where_known
from .reading import read_text

NOTHING_SAVED = "nothing saved yet"
PACK = Path(__file__).resolve().parent.parent
MOST_RECIPE = 200_000  # letters; a longer graph is left out of a file
Content = TypeVar("Content")


class SavingNode(io.ComfyNode):
    """A node that saves what comes in at one socket. A subclass gives ``KIND``, of loading.kinds, and its schema by
    ``saver``."""

    KIND: str

    @classmethod
    def saver(cls, content: io.Input, default: str, search_aliases: list[str], **words: str) -> io.Schema:
        """The schema. ``default``: a file name; ``words``: id, names and description."""
        return io.Schema(
            **words,
            **where_known(io.Schema, search_aliases=search_aliases, has_intermediate_output=True),
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
            inputs=[
                content,
                io.String.Input(
                    "name",
                    default=default,
                    tooltip=f"The file's name in {_shown_folder(cls.KIND)}. A / creates a folder: animals/cats. If "
                    "the name exists with other content, a number is appended.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    tooltip="Replace the file that this node saved under this name instead of appending a number.",
                ),
            ],
            outputs=[],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        """None: the name comes from another node, and is checked when it is there."""
        try:
            return name is None or bool(clean_name(read_text(name, "name of the file")))
        except ValueError as error:
            return str(error)

    @classmethod
    def keep(
        cls,
        socket: str,
        tensors: Mapping[str, Tensor],
        record: Mapping[str, Any],
        name: str,
        overwrite: bool,
        shown: str,
    ) -> io.NodeOutput:
        """Saves what came in at ``socket`` with the graph that made it, into the first folder of this kind: the
        artist's own where extra_model_paths.yaml names one. ``shown``: what the node says before the file's place."""
        folder = folder_paths.get_folder_paths(folder_key(cls.KIND))[0]
        whole = {**record, "recipe": recipe_of(cls.hidden, socket), "pack": pack_version()}
        saved = write_saved(folder, name, cls.KIND, tensors, whole, overwrite)
        return io.NodeOutput(ui=ui.PreviewText(f"{shown}\n{_describe_saved(saved)}"))


class LoadingNode(io.ComfyNode):
    """A node that loads what another one saved. A subclass gives ``KIND`` and its schema by ``loader``."""

    KIND: str

    @classmethod
    def loader(
        cls,
        saver: str,
        outputs: list[io.Output],
        search_aliases: list[str],
        inputs: Sequence[io.Input] = (),
        **words: str,
    ) -> io.Schema:
        """The schema. ``saver``: the title of the node that saves; ``inputs``: those beside the name."""
        return io.Schema(
            **words,
            **where_known(io.Schema, search_aliases=search_aliases, has_intermediate_output=True),
            inputs=[
                io.Combo.Input(
                    "name",
                    options=saved_names(cls.KIND),
                    tooltip=f"A file of {saver}, in {_shown_folder(cls.KIND)}. Press R to list files saved since the "
                    "page was opened.",
                ),
                *inputs,
            ],
            outputs=outputs,
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        try:
            return name is None or bool(find_saved(cls.KIND, name))
        except FileNotFoundError as error:
            return str(error)

    @classmethod
    def fingerprint_inputs(cls, name: str | None = None, **_: Any) -> str:
        """Another value once the file was changed."""
        try:
            state = find_saved(cls.KIND, name or "").stat()
        except OSError:
            return "missing"
        return f"{state.st_mtime_ns} {state.st_size} {state.st_ino}"

    @classmethod
    def read(cls, name: str, unpack: Callable[[dict, dict], Content]) -> tuple[Content, dict[str, Any], Path]:
        """What ``unpack`` makes of the tensors and the record -> that, the record, the file. CheckpointError where it
        cannot."""
        path = find_saved(cls.KIND, name)
        tensors, record = read_saved(path, cls.KIND)
        try:
            return unpack(tensors, record), record, path
        except ValueError as error:
            raise file_error(path, f"is damaged: {error}.", KINDS[cls.KIND].source) from error


def _shown_folder(kind: str) -> str:
    return f"models/{KINDS[kind].folder}"


def saved_names(kind: str) -> list[str]:
    names = [name for name in folder_paths.get_filename_list(folder_key(kind)) if name.endswith(SUFFIX)]
    return names or [NOTHING_SAVED]


def find_saved(kind: str, name: str) -> Path:
    """The file behind a name of ``saved_names``; FileNotFoundError says where it was looked for."""
    if name == NOTHING_SAVED:
        searched = ", ".join(folder_paths.get_folder_paths(folder_key(kind)))
        raise FileNotFoundError(f"Nothing is saved in {searched}. {KINDS[kind].source}")
    return find_weights(kind, f"{name}{SUFFIX}" if name == MINIATURE else name)


def _describe_saved(saved: Saved) -> str:
    place = f"{saved.path.parent.name}/{saved.path.name}, {saved.path.stat().st_size / 1e6:.2g} MB"
    return f"saved: {place}" if saved.is_new else f"exists already, unchanged: {place}"


def describe_file(path: Path, record: Mapping[str, Any]) -> str:
    """When it was saved, and by which version. The date is the file's own: inside it would make equal contents
    unequal."""
    return f"saved {datetime.fromtimestamp(path.stat().st_mtime):%Y-%m-%d %H:%M} by version {record.get('pack', '?')}"


def pack_version() -> str:
    found = re.search(r'^version = "([^"]+)"', (PACK / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else "unknown"


def recipe_of(hidden: Any, socket: str) -> dict[str, Any]:
    """The part of the graph (API format) that made what comes in at ``socket``, as ComfyUI's own nodes keep the graph
    in what they save; empty with --disable-metadata, and where the graph is not known."""
    prompt, unique_id = getattr(hidden, "prompt", None), getattr(hidden, "unique_id", None)
    if args.disable_metadata or not prompt or unique_id not in prompt:
        return {}
    link = prompt[unique_id]["inputs"].get(socket)
    if not isinstance(link, (list, tuple)) or str(link[0]) not in prompt:
        return {}
    graph, ahead = {}, [str(link[0])]
    while ahead:
        node = ahead.pop()
        if node in graph or node not in prompt:
            continue
        graph[node] = {key: prompt[node][key] for key in ("class_type", "inputs")}
        ahead += [
            str(value[0]) for value in graph[node]["inputs"].values() if isinstance(value, (list, tuple)) and value
        ]
    recipe = {"node": str(link[0]), "output": link[1], "graph": graph}
    return recipe if len(str(recipe)) <= MOST_RECIPE else {}


def describe_recipe(recipe: Any) -> str:
    """The last node of a recipe and its widgets: "MixEmbeddings: edit_weight 0.4, norm 20"; "" where there is none."""
    try:
        node = recipe["graph"][recipe["node"]]
        name, inputs = str(node["class_type"]).removeprefix("Any2Pix"), dict(node["inputs"])
    except (KeyError, TypeError, ValueError):
        return ""
    widgets = [
        f"{key} {value}" for key, value in inputs.items() if isinstance(value, (bool, int, float, str)) and value != ""
    ]
    return f"{name}: {', '.join(widgets)[:200]}" if widgets else name
