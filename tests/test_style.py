"""The style that pyproject.toml asks for. `ruff check --fix . && ruff format .` mends most of it."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("asked", [["check"], ["format", "--check"]], ids=["lint", "format"])
def test_ruff_finds_nothing(root, asked):
    found = subprocess.run([sys.executable, "-m", "ruff", *asked, "."], cwd=root, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
