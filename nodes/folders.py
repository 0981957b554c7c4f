"""Where weight files lie: the bundled miniature, and the model folders of this ComfyUI (extra_model_paths.yaml included)."""

import os
from pathlib import Path, PureWindowsPath

import folder_paths

from ..loading.kinds import KINDS

MINIATURE = "miniature"
MINIATURE_FOLDER = Path(__file__).resolve().parent.parent / "miniature"
WEIGHT_SUFFIXES = {".safetensors", ".pth", ".pt", ".bin"}
LOADED_KINDS = ("imagebind", "llm", "prior", "adapter", "unet", "pix2pix", "references", "embedding", "inversion")
# A Hugging Face folder is chosen by its own name, not by one of its shards; its config.json has this word.
FOLDER_MARKS = {"llm": '"hidden_size"', "unet": '"cross_attention_dim"', "pix2pix": '"cross_attention_dim"'}


def folder_key(kind: str) -> str:
    """The name of the folder in folder_paths and in extra_model_paths.yaml: any2pix_imagebind for any2pix/imagebind."""
    return KINDS[kind].folder.replace("/", "_")


def register_folders() -> None:
    """Make models/any2pix/imagebind and the others known to ComfyUI; paths the artist configured stay in front."""
    for kind in LOADED_KINDS:
        key = folder_key(kind)
        folder_paths.add_model_folder_path(key, os.path.join(folder_paths.models_dir, *KINDS[kind].folder.split("/")))
        paths, _ = folder_paths.folder_names_and_paths[key]
        folder_paths.folder_names_and_paths[key] = (paths, WEIGHT_SUFFIXES)


def list_names(kind: str) -> list[str]:
    """What a loader's widget offers: the miniature first, so that a shared workflow opens and runs on a fresh machine."""
    names = folder_paths.get_filename_list(folder_key(kind))
    if kind in FOLDER_MARKS:
        folders = _model_folders(kind)
        names = folders + [name for name in names if not any(name.startswith(folder + os.sep) for folder in folders)]
    return [MINIATURE, *names]


def find_weights(kind: str, name: str) -> Path:
    """The file or folder behind a name of ``list_names``; raises FileNotFoundError with the folder and the source."""
    if name == MINIATURE:
        path = MINIATURE_FOLDER / f"{kind}.safetensors"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path.name} of the bundled miniature is not in {MINIATURE_FOLDER}. Install the pack again; "
                "a git clone needs its whole content."
            )
        return path
    parts = _inside(name)
    for folder in folder_paths.get_folder_paths(folder_key(kind)) if parts else []:
        path = Path(folder, *parts)
        if path.exists():
            return path
    raise FileNotFoundError(missing_message(kind, name))


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


def _inside(name: str) -> tuple[str, ...]:
    """The parts of a name below a model folder, whichever system the workflow was saved on; none where it leads out of it."""
    path = PureWindowsPath(name)  # knows both separators
    return () if path.anchor or ".." in path.parts else path.parts


def _model_folders(kind: str) -> list[str]:
    """Folders with a config.json of this kind, at any depth below a model folder and through links, by their relative names."""
    found = set()
    for root in folder_paths.get_folder_paths(folder_key(kind)):
        for folder, below, files in os.walk(root, followlinks=True):
            if "config.json" in files and folder != root:
                text = Path(folder, "config.json").read_text(encoding="utf-8", errors="replace")
                if FOLDER_MARKS[kind] in text:
                    found.add(os.path.relpath(folder, root))
                    below.clear()
    return sorted(found)
