"""A node that ComfyUI runs once for each value of a list says in its errors which run it was."""

from collections.abc import Sequence
from functools import wraps

from comfy_api.latest import io
from comfy_execution.utils import get_executing_context


def number_runs(nodes: Sequence[type[io.ComfyNode]]) -> None:
    """Has each node name its run, counted from 1, in front of what it complains about.

    The first run has no number: ComfyUI tells its place alone, and an only run has the same.
    """
    for node in nodes:
        node.execute = classmethod(_numbered(node.execute.__func__))


def _numbered(execute):
    @wraps(execute)
    def numbered(cls, *args, **inputs):
        try:
            return execute(cls, *args, **inputs)
        except (ValueError, OSError) as error:
            context = get_executing_context()
            if context is not None and context.list_index and len(error.args) == 1:
                error.args = (f"Run {context.list_index + 1} of a list, as Grid Values makes one: {error}",)
            raise

    return numbered
