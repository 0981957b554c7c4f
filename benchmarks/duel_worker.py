"""One side of benchmarks/against_upstream.py in a process of its own: JSON lines in, JSON lines out.

``{"do": "prepare", "kind": "llm", "task": {...}, "folder": "..."}``, then ``check`` and ``run`` as often as wanted. The
answer to ``check`` holds numbers, the answer to ``run`` seconds: ``wall``, and ``cpu``, those this process computed.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path

import torch

from . import duel_inputs as inputs

TOOLS = Path(__file__).resolve().parent.parent / "tools"  # the stand-ins for what the authors' code imports
TASKS = {
    "llm": inputs.LLMTask,
    "encode": inputs.EncodeTask,
    "prior": inputs.PriorTask,
    "paint": inputs.PaintTask,
    "edit": inputs.EditTask,
}
SIDES = ("ours", "upstream")


def build_task(kind: str, given: dict):
    """The task's dataclass from JSON."""
    if kind == "edit":
        given = {key: build_task(key, value) if key in TASKS else value for key, value in given.items()}
    return TASKS[kind](**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})


class Worker:
    def __init__(self, side: str):
        if side == "upstream":
            sys.path.insert(0, str(TOOLS))
        self.prepare_by_kind = importlib.import_module(f".duel_{side}", __package__).PREPARE
        self.prepared = None

    def prepare(self, kind: str, task: dict, folder: str) -> dict:
        self.prepared = None  # the one before goes first: two would not fit
        torch.manual_seed(inputs.SEED)
        self.prepared = self.prepare_by_kind[kind](build_task(kind, task), Path(folder))
        return {}

    def check(self) -> dict:
        return {"numbers": self.prepared.check().float().tolist()}

    def run(self) -> dict:
        torch.manual_seed(inputs.SEED)
        wall, cpu = time.perf_counter(), time.process_time()
        self.prepared.run()
        return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def main(side: str):
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the networks' code prints must not mix with the answers
    worker = Worker(side)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            result = getattr(worker, request.pop("do"))(**request)
        except Exception:
            result = {"error": traceback.format_exc()}
        answers.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
