"""What every node does before and after its own work: look at what came in, and say in an error which run of several it
was.

ComfyUI holds a widget's range and type where it is typed, and lets everything pass where it is linked.
"""

from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any

from comfy_api.latest import io
from comfy_execution.utils import get_executing_context

from .reading import described, read_number, read_references, read_text, read_whole, require
from .sockets import Embedding

NETWORKS = ("IMAGEBIND", "MM_LLM", "MM_PRIOR", "MM_ADAPTER", "MODEL", "VAE", "CLIP")
READ_BY_NODES = ("IMAGE", "AUDIO")  # None there is a film without sound, which is not the same as nothing connected
NO_NETWORK = (type(None), bool, int, float, str, bytes, list, tuple, dict)
NO_LIMIT = float("inf")


def guard(nodes: Sequence[type[io.ComfyNode]]) -> None:
    """Has each node check numbers, texts, references and embeddings against its schema before it runs, and number its
    runs.

    Pictures, sounds, latents and what is in a conditioning are the node's own to look at. The first run of several has
    no number: ComfyUI tells its place alone, and an only run has the same.
    """
    for node in nodes:
        node.execute = classmethod(_guarded(node.execute.__func__))


def _guarded(execute: Callable[..., io.NodeOutput]) -> Callable[..., io.NodeOutput]:
    @wraps(execute)
    def guarded(cls: type[io.ComfyNode], **inputs: Any) -> io.NodeOutput:
        try:
            return execute(cls, **checked(cls, inputs))
        except (ValueError, OSError) as error:
            context = get_executing_context()
            if context is not None and context.list_index and len(error.args) == 1:
                error.args = (f"Run {context.list_index + 1} of a list, as Grid Values makes one: {error}",)
            raise

    return guarded


def checked(node: type[io.ComfyNode], inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs as the node can work with them; an optional one that is None is left out, so that its default holds,
    but not a picture or a sound."""
    schema = _schema(node)
    if schema.is_input_list:
        return inputs
    entries = {entry.id: entry for entry in schema.inputs}
    taken = {}
    for name, value in inputs.items():
        entry = entries.get(name)
        if entry is None:
            taken[name] = value
        elif value is not None or not entry.optional or str(entry.get_io_type()) in READ_BY_NODES:
            taken[name] = _read(entry, value, schema.display_name)
    return taken


@cache
def _schema(node: type[io.ComfyNode]) -> io.Schema:
    return node.define_schema()


def _read(entry: io.Input, value: Any, node: str) -> Any:
    kind = str(entry.get_io_type())
    what = f"{entry.id} of {node}"
    if kind in ("INT", "FLOAT"):
        low = -NO_LIMIT if entry.min is None else entry.min
        high = NO_LIMIT if entry.max is None else entry.max
        return (read_whole if kind == "INT" else read_number)(value, what, low, high)
    if kind == "STRING":
        return read_text(value, what)
    if kind == "BOOLEAN" and not isinstance(value, (bool, int, float)):
        raise ValueError(f"The {what} is {described(value)}, not a switch. Set it, or connect a BOOLEAN.")
    if kind == "COMBO" and not isinstance(value, str):
        raise ValueError(f"The {what} is {described(value)}, not one of its options. Choose one from the list.")
    if kind == "MM_REFERENCES":
        return read_references(value, node)
    if kind == "MM_EMBEDDING":
        if hasattr(value, "vector"):  # by another pack's class too
            return value
        return require(value, Embedding, f"{entry.id} input of {node}", "an embedding, as its tooltip says")
    if kind == "CONDITIONING" and not isinstance(value, (list, tuple)):
        raise ValueError(
            f"The {entry.id} input of {node} is {described(value)}. Connect CONDITIONING, for example from CLIP Text "
            "Encode."
        )
    # a graph in API format may have a value where a wire belongs
    if kind in NETWORKS and isinstance(value, NO_NETWORK):
        gave = (
            "None: the node it comes from returned nothing"
            if value is None
            else f"{described(value)}, not of type {kind}"
        )
        raise ValueError(f"The {entry.id} input of {node} is {gave}. Connect its loader.")
    return value
