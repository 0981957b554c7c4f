"""Nodes that have another id than they had: graphs with the old one go on working, on every host."""

from collections.abc import Mapping

from comfy_api.latest import ComfyAPI, io

# Old id -> the node it is now, with the inputs and outputs it had. An id, once landed, never leaves this table.
RENAMED: Mapping[str, type[io.ComfyNode]] = {}


def old_ids(renamed: Mapping[str, type[io.ComfyNode]] = RENAMED) -> list[type[io.ComfyNode]]:
    """Each renamed node under its old id too, marked as deprecated, so that a graph in API format still runs."""
    return [_under(old_id, node) for old_id, node in renamed.items()]


async def register_renames(renamed: Mapping[str, type[io.ComfyNode]] = RENAMED) -> None:
    """On hosts that support node replacement: the page then offers to replace the old node with the new one."""
    if renamed and hasattr(ComfyAPI, "NodeReplacement"):
        for old_id, node in renamed.items():
            await ComfyAPI().node_replacement.register(io.NodeReplace(node.define_schema().node_id, old_id))


def _under(old_id: str, node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    def define_schema(cls: type[io.ComfyNode]) -> io.Schema:
        schema = node.define_schema()
        schema.node_id, schema.is_deprecated = old_id, True
        return schema

    return type(f"{node.__name__}UnderOldId", (node,), {"define_schema": classmethod(define_schema)})
