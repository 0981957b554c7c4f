"""Installing the pack changes nothing in an artist's ComfyUI: what it asks for is there already."""

import ast
import json
import subprocess
import sys

import pytest
import workspace
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

BOUND_TO_TORCH = {"torch", "torchvision", "torchaudio", "torchsde", "xformers"}  # built for one torch, or bring one


RUN_TIME = ("__init__.py", "nodes", "stages", "loading", "models")
MODULES = {"pillow": "PIL"}  # where a package's module has another name
NEEDED_ELSEWHERE = {
    ("loading/diffusion.py", "diffusers"),  # in a function that training and evaluation call
    ("loading/llama_tokenizer.py", "sentencepiece"),  # for an LLM folder as published; the error names it
}


def requirements(path) -> dict[str, Requirement]:
    lines = (line.split("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines if line}


@pytest.fixture(scope="module")
def ours(root):
    return requirements(root / "requirements.txt")


@pytest.fixture(scope="module")
def hosts():
    return requirements(workspace.comfyui_path() / "requirements.txt")


def test_nothing_that_is_built_for_one_torch(ours):
    assert not BOUND_TO_TORCH & set(ours)


def test_nothing_that_comfyui_does_not_bring(ours, hosts):
    """ComfyUI 0.3.75's own list here, that of another where COMFYUI_PATH says so."""
    assert not set(ours) - set(hosts)


def test_no_bound_is_stricter_than_comfyuis(ours, hosts):
    for name, wanted in ours.items():
        allowed = {bound.version for bound in hosts[name].specifier if bound.operator in (">=", "==", "~=")}
        assert all(wanted.specifier.contains(version) for version in allowed), f"{wanted}, ComfyUI has {hosts[name]}"
        assert allowed or not wanted.specifier, f"{wanted}, ComfyUI takes any version"
        assert {bound.operator for bound in wanted.specifier} <= {">="}, f"{wanted} would take newer versions away"


def imported(path) -> set[str]:
    """The top names that a file imports, anywhere in it but for type checkers."""
    tree = ast.parse(path.read_text("utf-8"))
    typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    skipped = {inner for node in typing for inner in ast.walk(node)}
    names = set()
    for node in set(ast.walk(tree)) - skipped:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_the_nodes_import_only_what_the_pack_asks_for(root, ours):
    known = {MODULES.get(name, name) for name in ours} | {"torch", "typing_extensions"} | set(sys.stdlib_module_names)
    known |= {path.stem for path in workspace.comfyui_path().iterdir()}
    unknown = set()
    for room in RUN_TIME:
        for path in [root / room] if room.endswith(".py") else (root / room).rglob("*.py"):
            unknown |= {(path.relative_to(root).as_posix(), name) for name in imported(path) - known}
    assert unknown == NEEDED_ELSEWHERE


def would_install(path) -> list[str]:
    """The resolver's dry run into the Python that runs ComfyUI. Without a registry: what is missing is an error then,
    and what is there is not looked up."""
    command = [workspace.comfyui_python(), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    command += ["--dry-run", "--no-index", "--report", "-", "-r", path]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    if done.returncode:
        return [line for line in done.stderr.splitlines() if "No matching distribution" in line] or [done.stderr]
    return [item["metadata"]["name"] for item in json.loads(done.stdout)["install"]]


def test_the_resolver_would_install_nothing(root, tmp_path):
    assert would_install(root / "requirements.txt") == []
    newer = tmp_path / "requirements.txt"
    newer.write_text("tqdm>=999\n")
    assert "No matching distribution found for tqdm>=999" in would_install(newer)[0]
