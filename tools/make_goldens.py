"""Runs the authors' networks on seeded weights and writes their outputs to tests/golden.

    python tools/make_goldens.py imagebind --imagebind DIR --pytorchvideo DIR
    python tools/make_goldens.py prior llm ... --instructany2pix DIR

The folders are checkouts of github.com/facebookresearch/ImageBind, facebookresearch/pytorchvideo and
jacklishufan/InstructAny2Pix; tests/golden/README.md says which commits and which library versions were used.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import platform
import subprocess
import sys
from pathlib import Path

# what is asked for: the module of goldens/, the repositories it runs, the sizes it is made at
MAKERS = {
    "imagebind": ("imagebind", ("imagebind", "pytorchvideo"), ("small", "wide")),
    "imagebind-full": ("imagebind", ("imagebind", "pytorchvideo"), ("full",)),
    "prior": ("prior", ("instructany2pix",), ("small", "wide")),
    "llm": ("llm", ("instructany2pix",), ("small", "wide")),
    "mixing": ("mixing", ("instructany2pix",), ()),
    "two-view": ("two_view", ("instructany2pix",), ("small", "wide")),
    "unclip": ("unclip", ("first_release",), ("small", "wide")),
    "inversion": ("inversion", ("instructany2pix",), ()),
}
REPOSITORIES = ("imagebind", "pytorchvideo", "instructany2pix", "first_release")
LIBRARIES = ("torch", "torchaudio", "torchvision", "transformers", "diffusers", "numpy")


class Options(argparse.Namespace):
    """The command line, and what is noted of the surroundings in every file."""

    def notes(self, *repositories: str) -> dict:
        from goldens import authors

        versions = {name: importlib.metadata.version(name) for name in LIBRARIES if _installed(name)}
        commits = {
            name: getattr(self, f"{name}_commit") or authors.commit(getattr(self, name)) for name in repositories
        }
        return {"versions": versions, "python": platform.python_version(), "commits": commits}

    def flags(self) -> list[str]:
        """The repositories, as they were given on the command line."""
        names = [name for repository in REPOSITORIES for name in (repository, f"{repository}_commit")]
        given = [(name, getattr(self, name)) for name in names if getattr(self, name)]
        return [part for name, value in given for part in (f"--{name.replace('_', '-')}", str(value))]


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="+", choices=sorted(MAKERS))
    for name in REPOSITORIES:
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=Path, help="checkout of the authors' repository")
        parser.add_argument(f"{flag}-commit", default="", help="its commit, for an unpacked archive")
    options = parser.parse_args(arguments, Options())
    for which in options.which:
        for name in MAKERS[which][1]:
            if getattr(options, name) is None or not getattr(options, name).is_dir():
                flag = f"--{name.replace('_', '-')}"
                parser.error(f"{which} runs the authors' code: give {flag} and an existing folder")
    if len(options.which) > 1:  # a process each: the repositories share names of packages
        for which in options.which:
            subprocess.run([sys.executable, __file__, which, *options.flags()], check=True)
    else:
        run(options)


def run(options: Options) -> None:
    module, _, sizes = MAKERS[options.which[0]]
    maker = importlib.import_module(f"goldens.{module}")
    if not sizes:
        maker.make(options)
    for size in sizes:
        maker.make(options, size)


if __name__ == "__main__":
    main()
