"""What every test shares: where things lie, and a say-so at the end about tests that could not run."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# one thread: the tests share their machine with the ComfyUI server that they drive
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository root."""
    return ROOT


def pytest_terminal_summary(terminalreporter) -> None:
    """Skipped tests are easy to overlook: name each reason once, in plain sight."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = {report.longrepr[2].removeprefix("Skipped: ") for report in skipped if isinstance(report.longrepr, tuple)}
    if reasons:
        terminalreporter.section(f"{len(skipped)} TESTS DID NOT RUN", sep="!")
        for reason in sorted(reasons):
            terminalreporter.line(reason)
