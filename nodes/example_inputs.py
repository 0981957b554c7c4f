"""The pictures and sounds of the example workflows: LoadImage and LoadAudio find files in ComfyUI's input folder only."""

import logging
import shutil
from pathlib import Path

import folder_paths

EXAMPLES = Path(__file__).resolve().parent.parent / "workflows" / "inputs"
logger = logging.getLogger(__name__)


def copy_example_inputs() -> list[str]:
    """Copies the example files that the input folder lacks into it, so that every example workflow runs as it opens.

    Never overwrites a file. Returns the names that were copied.
    """
    target = Path(folder_paths.get_input_directory())
    missing = [file for file in sorted(EXAMPLES.iterdir()) if not (target / file.name).exists()]
    try:
        target.mkdir(parents=True, exist_ok=True)
        for file in missing:
            shutil.copyfile(file, target / file.name)
    except OSError as error:  # an input folder that may not be written to must not keep the nodes from loading
        logger.warning("The example inputs could not be copied to %s: %s", target, error)
        return []
    return [file.name for file in missing]
