"""What the ComfyUI registry checks before it takes a pack."""

import os
import re
import subprocess

import comfy_server
import tomllib
import workspace
from any2pix.miniature import manifest


def test_comfy_node_validate_has_nothing_to_say(tmp_path):
    program = workspace.venv_python().parent / "comfy"
    done = subprocess.run(
        [program, "--skip-prompt", "--no-json", "node", "validate"],
        cwd=workspace.ROOT,
        env=comfy_server.quiet_environment(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "All validation checks passed" in said
    assert not re.search(r"warning|error|⚠", said, re.IGNORECASE), said  # it exits with 0 in spite of warnings


def test_the_name_and_version_are_as_the_registry_wants_them(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert "comfyui" not in project["name"].lower()
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])


def test_the_pack_is_small_enough_to_travel():
    """The bundled checkpoint may take 40 MB."""
    files = [file for file in manifest.FOLDER.iterdir() if file.suffix == ".safetensors"]
    assert sum(os.path.getsize(file) for file in files) <= 40e6
