"""Where weight files lie: the bundled miniature, and the model folders of this ComfyUI (extra_model_paths.yaml
included)."""

import logging
import os
from pathlib import Path, PureWindowsPath

import folder_paths

from ...loading.entries import trouble_at
from ...loading.errors import printable
from ...loading.kinds import KINDS
from ...miniature import manifest
from .listing import list_folder

MINIATURE = manifest.NAME
WEIGHT_SUFFIXES = {".safetensors", ".pth", ".pt", ".bin"}
LOADED_KINDS = tuple(manifest.OFFERED)  # networks, each with a miniature
SAVED_KINDS = ("references", "embedding", "inversion")  # what nodes of ours wrote
# A Hugging Face folder is chosen by its own name, not by one of its shards; its config.json has this word.
FOLDER_MARKS = {"llm": '"hidden_size"', "unet": '"cross_attention_dim"', "pix2pix": '"cross_attention_dim"'}
NOT_THERE = "is not there"  # what trouble_at says of it

logger = logging.getLogger(__name__)


def folder_key(kind: str) -> str:
    """The name of the folder in folder_paths and in extra_model_paths.yaml: any2pix_imagebind for any2pix/imagebind."""
    return KINDS[kind].folder.replace("/", "_")


def register_folders() -> None:
    """Make models/any2pix/imagebind and the others, and make them known to ComfyUI; paths the artist configured stay in
    front."""
    for kind in LOADED_KINDS + SAVED_KINDS:
        key = folder_key(kind)
        place = os.path.join(folder_paths.models_dir, *KINDS[kind].folder.split("/"))
        _make_folder(place)
        folder_paths.add_model_folder_path(key, place)
        paths, _ = folder_paths.folder_names_and_paths[key]
        folder_paths.folder_names_and_paths[key] = (paths, WEIGHT_SUFFIXES)


def list_names(kind: str) -> list[str]:
    """What a loader's widget offers: the miniature first, so that a shared workflow opens and runs on a fresh
    machine."""
    folders, files = set(), set()
    for root in folder_paths.get_folder_paths(folder_key(kind)):
        found = list_folder(root, WEIGHT_SUFFIXES, FOLDER_MARKS.get(kind))
        folders.update(found.folders)
        files.update(found.files)
    return [MINIATURE, *sorted(folders), *sorted(files)]


def find_weights(kind: str, name: str) -> Path:
    """The file or folder behind a name of ``list_names``; raises FileNotFoundError with the folder and the source.

    A name never leads out of the model folders. A link that lies in one is followed: the artist put it there, and what
    it leads to has to be a weight file like any other.
    """
    if name == MINIATURE:
        path = manifest.FOLDER / manifest.OFFERED[kind]
        if not path.is_file():
            raise FileNotFoundError(
                f"{path.name} of the bundled miniature is not in {manifest.FOLDER}. Install the pack again; a git "
                "clone must be complete."
            )
        return path
    parts, seen = _inside(name), None
    for folder in folder_paths.get_folder_paths(folder_key(kind)) if parts else []:
        path = Path(folder, *parts)
        trouble = trouble_at(path)
        if trouble is None:
            return path
        if trouble != NOT_THERE and seen is None:
            seen = f"{name!r} in {folder} {trouble}. {KINDS[kind].source}"
    raise FileNotFoundError(printable(seen or missing_message(kind, name)))


def missing_message(kind: str, name: str) -> str:
    searched = ", ".join(folder_paths.get_folder_paths(folder_key(kind)))
    return f"{name!r} is not in {searched}. {KINDS[kind].source}"


def check_name(kind: str, name: str) -> bool | str:
    """For validate_inputs: True, or the sentence to show on the node before anything runs."""
    try:
        find_weights(kind, name)
    except FileNotFoundError as error:
        return str(error)
    return True


def _make_folder(place: str) -> None:
    """So that downloads and the converter find it. A model folder that may not be written to is read as it is."""
    try:
        os.makedirs(place, exist_ok=True)
    except OSError as error:
        logger.warning(
            "%s could not be created (%s). Set another folder in extra_model_paths.yaml.", place, error.strerror
        )


def _inside(name: str) -> tuple[str, ...]:
    """The parts of a name below a model folder, whichever system the workflow was saved on; none where it leads out of
    it."""
    if not isinstance(name, str):
        return ()
    path = PureWindowsPath(name)  # handles both separators
    return () if path.anchor or ".." in path.parts else path.parts
