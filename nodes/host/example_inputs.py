"""The pictures and sounds of the example workflows: LoadImage and LoadAudio find files in ComfyUI's input folder
only."""

import logging
import os
from pathlib import Path

import folder_paths

from ...loading.atomic import write_atomic

EXAMPLES = Path(__file__).resolve().parents[2] / "workflows" / "inputs"
logger = logging.getLogger(__name__)


def copy_example_inputs() -> list[str]:
    """Copies the example files that the input folder lacks into it, so that every example workflow runs as it opens.

    Never overwrites a file, and leaves no half one. Returns the names that were copied. An input folder that may not be
    written to, or a full disk, is logged: it must not keep the nodes from loading.
    """
    copied = []
    try:
        target = Path(folder_paths.get_input_directory())
        for file in sorted(EXAMPLES.iterdir()):
            if not os.path.lexists(target / file.name):
                write_atomic(target / file.name, file.read_bytes())
                copied.append(file.name)
    except (OSError, ValueError) as error:  # a CheckpointError is a ValueError
        logger.warning("The example inputs could not be copied: %s They are in %s.", error, EXAMPLES)
    return copied
