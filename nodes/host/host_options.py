"""What newer ComfyUIs know of a node or an input and older ones do not."""

import inspect
from collections.abc import Callable
from typing import Any


def where_known(declaration: Callable[..., Any], **options: Any) -> dict[str, Any]:
    """Those of ``options`` that this ComfyUI's ``declaration`` (io.Schema, io.Float.Input ...) takes, to be spread into
    its call.

    search_aliases, has_intermediate_output (what the node shows is sent again while it is cached) and advanced (a
    widget that the page folds away) came after ComfyUI 0.3.75.
    """
    known = inspect.signature(declaration).parameters
    return {name: value for name, value in options.items() if name in known}
