"""Holds the plan of the house: who may import whom, and that only nodes/ and the root know ComfyUI."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOWER = {"models", "loading", "stages", "miniature"}
MAY_IMPORT = {
    "models": set(),
    "loading": {"models"},
    "stages": {"models"},
    "miniature": set(),
    "datagen": LOWER,
    "evaluation": LOWER | {"datagen"},
    "training": LOWER | {"datagen", "evaluation"},
    "benchmarks": LOWER | {"datagen", "evaluation", "training"},
    "nodes": LOWER,
    "__init__.py": {"nodes"},
}
KNOWS_COMFYUI = {"nodes", "__init__.py"}
COMFYUI_MODULES = {
    "comfy",
    "comfy_api",
    "comfy_api_nodes",
    "comfy_config",
    "comfy_execution",
    "comfy_extras",
    "execution",
    "folder_paths",
    "latent_preview",
    "node_helpers",
    "nodes",
    "server",
    "app",
    "api_server",
}
TOOLS = sorted((ROOT / "tools").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
# Modules of tools/ that write what is committed.
BUILDERS = re.compile(r"(build|make|pin)_|workflow_(?!data$)|goldens$")
FILE_READERS = {"safetensors", "pathlib", "pickle", "io", "shutil"}


def package_files() -> list[Path]:
    files = [ROOT / "__init__.py"]
    for room in MAY_IMPORT:
        files += sorted((ROOT / room).rglob("*.py"))
    return files


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def imports_of(path: Path) -> list[tuple[int, str, int]]:
    """(relative level, dotted name, line) of every import, wherever in the file it stands."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(0, alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is None:
            found += [(node.level, alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module, node.lineno))
    return found


def imported_rooms(path: Path) -> list[tuple[str, int]]:
    """(room, line) of every relative import that leaves the file's own room."""
    folders = path.relative_to(ROOT).parts[:-1]
    found = []
    for level, name, line in imports_of(path):
        if level:
            target = [*folders[: len(folders) - level + 1], *name.split(".")]
            if target[0] != room_of(path):
                found.append((target[0], line))
    return found


@pytest.mark.parametrize("path", package_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_keep_to_the_plan(path):
    room = room_of(path)
    for target, line in imported_rooms(path):
        assert target in MAY_IMPORT[room], f"{path.relative_to(ROOT)}:{line}: {room} may not import {target}"
    for level, name, line in imports_of(path):
        top = name.split(".")[0]
        assert level or top != "any2pix", (
            f"{path.relative_to(ROOT)}:{line}: import relatively, ComfyUI loads the pack by its path"
        )
        if room not in KNOWS_COMFYUI:
            assert level or top not in COMFYUI_MODULES, (
                f"{path.relative_to(ROOT)}:{line}: only nodes/ and the root may import {top}"
            )


@pytest.mark.parametrize("path", sorted((ROOT / "models").glob("*.py")), ids=lambda path: path.name)
def test_networks_open_no_files(path):
    readers = [
        f"line {line}: {name}"
        for level, name, line in imports_of(path)
        if not level and name.split(".")[0] in FILE_READERS
    ]
    calls = [
        f"line {node.lineno}: {ast.unparse(node.func)}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"open", "torch.load", "torch.save"}
    ]
    assert not readers + calls


@pytest.mark.parametrize("path", package_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_file_names_are_plain_snake_case(path):
    assert re.fullmatch(r"(__init__|__main__|[a-z][a-z0-9]*(_[a-z0-9]+)*)\.py", path.name)


def test_every_room_is_packaged():
    packages = set(re.findall(r'"any2pix\.(\w+)"', (ROOT / "pyproject.toml").read_text()))
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests"}
    assert packages >= rooms
    assert packages == set(MAY_IMPORT) - {"__init__.py"}


def test_every_folder_of_a_room_is_packaged():
    listed = re.findall(r'"any2pix\.([\w.]+)"', (ROOT / "pyproject.toml").read_text())
    folders = {
        path.parent.relative_to(ROOT) for room in packages_of_rooms() for path in (ROOT / room).rglob("__init__.py")
    }
    assert {".".join(folder.parts) for folder in folders} <= set(listed)


def packages_of_rooms() -> set[str]:
    return set(MAY_IMPORT) - {"__init__.py"}


@pytest.mark.parametrize("path", sorted((ROOT / "nodes" / "host").glob("*.py")), ids=lambda path: path.name)
def test_what_knows_comfyui_knows_no_node(path):
    for level, name, line in imports_of(path):
        assert level != 2, f"{path.relative_to(ROOT)}:{line}: nodes/host may not import nodes/{name}"


@pytest.mark.parametrize("path", TOOLS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tools_know_no_test(path):
    entries = [entry for folder in ("comfyui", "training") for entry in (ROOT / "tests" / folder).iterdir()]
    of_tests = {"tests", *(entry.stem for entry in entries)}  # both folders are on pytest's path
    for level, name, line in imports_of(path):
        assert level or name.split(".")[0] not in of_tests, f"{path.relative_to(ROOT)}:{line}: {name} is the tests' own"
    assert '"tests" / "comfyui"' not in path.read_text()


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_take_nothing_from_builders(path):
    """But a builder's own test. What both need is data or a client: workflow_data, golden_inputs, node_schemas,
    comfyui_client."""
    for level, name, line in imports_of(path):
        top = name.split(".")[0]
        assert level or not BUILDERS.match(top) or path.stem == f"test_{top}", (
            f"{path.relative_to(ROOT)}:{line}: {top} builds what is committed; the test reads that, or what both need"
        )


def test_requirements_and_pyproject_ask_for_the_same():
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[(.*?)^\]", text, re.S | re.M).group(1)
    wanted = [
        line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert re.findall(r'"([^"]+)"', listed) == wanted
