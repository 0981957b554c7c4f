"""The LLM has the same numbers with the oldest transformers that ComfyUI takes and with the newest there is."""

import json
import os
import subprocess
import sys

import pytest

TESTS = ("tests/models/test_mm_llm.py", "tests/golden/test_llm_numbers.py", "-m", "not slow")
OFFLINE = (
    "No matching distribution",
    "Could not find a version",
    "Failed to establish",
    "timed out",
    "ConnectionError",
)


def pip(*words) -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode and any(sign in done.stderr for sign in OFFLINE):
        pytest.skip("the package registry cannot be reached: other versions of transformers are not tried")
    assert done.returncode == 0, done.stderr
    return done.stdout


def install(wanted: str, folder) -> str:
    """transformers and what the resolver would change for it, into a folder of their own -> its version."""
    report = json.loads(pip("--dry-run", "--upgrade", "--report", "-", wanted))
    resolved = {item["metadata"]["name"]: item["metadata"]["version"] for item in report["install"]}
    if resolved:
        pip("--no-deps", "--target", folder, *(f"{name}=={version}" for name, version in resolved.items()))
    return resolved.get("transformers", "")


@pytest.mark.parametrize("wanted", ["transformers==4.50.3", "transformers"], ids=["oldest", "newest"])
def test_the_llm_runs_with(wanted, root, tmp_path):
    version = install(wanted, tmp_path)
    if not version:
        pytest.skip("the newest transformers is the one that all other tests run with")
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS]
    done = subprocess.run(
        command, cwd=root, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"transformers {version}\n{done.stdout[-3000:]}{done.stderr[-2000:]}"
    assert " passed" in done.stdout and "skipped" not in done.stdout
