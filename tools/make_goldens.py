"""Runs the authors' networks on seeded weights and writes what comes out to tests/golden.

    python tools/make_goldens.py imagebind --imagebind DIR --pytorchvideo DIR
    python tools/make_goldens.py prior llm ... --instructany2pix DIR

The folders are checkouts of github.com/facebookresearch/ImageBind, facebookresearch/pytorchvideo and
jacklishufan/InstructAny2Pix; tests/golden/README.md says which commits and which library versions were used.
"""

import argparse
import importlib
import platform
from pathlib import Path

MAKERS = {
    "imagebind": ("imagebind", "small", "wide"),
    "imagebind-full": ("imagebind", "full"),
    "llm": ("llm", "small", "wide"),
    "mixing": ("mixing",),
    "two-view": ("two_view", "small", "wide"),
    "unclip": ("unclip", "small", "wide"),
    "inversion": ("inversion",),
    "prior": ("prior", "small", "wide"),
}
LIBRARIES = ("torch", "torchaudio", "torchvision", "transformers", "diffusers", "numpy")


class Options(argparse.Namespace):
    """The command line, and what is noted of the surroundings in every file."""

    def notes(self, *repositories: str) -> dict:
        from goldens import authors

        versions = {name: importlib.metadata.version(name) for name in LIBRARIES if _installed(name)}
        commits = {name: getattr(self, f"{name}_commit") or authors.commit(getattr(self, name)) for name in repositories}
        return {"versions": versions, "python": platform.python_version(), "commits": commits}


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="+", choices=sorted(MAKERS))
    for name in ("imagebind", "pytorchvideo", "instructany2pix", "first_release"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, help="checkout of the authors' repository")
        parser.add_argument(f"--{name.replace('_', '-')}-commit", default="", help="its commit, for an unpacked archive")
    options = parser.parse_args(arguments, Options())
    for which in options.which:
        module, *sizes = MAKERS[which]
        maker = importlib.import_module(f"goldens.{module}")
        for size in sizes or [None]:
            maker.make(options, *filter(None, [size]))


if __name__ == "__main__":
    main()
