"""Four clients queue 200 edits on one ComfyUI and interrupt some: python -m any2pix.benchmarks.soak --out DIR

Needs what the tests need: `make setup`, or COMFYUI_PATH. Every distinct edit runs once, alone, on a server of its
own: that is the picture it must give. Then another server gets the whole queue at once, each client its own picture,
sounds, sentences and seeds. Counted are prompts that never ended, failed, or gave another picture than their own, bit
for bit; and the server's resident memory after every edit, where the median of the first edits after a warm-up stands
beside that of the last ones. Exit status 1: something was lost, swapped or failed, or the memory grew by more than 2 %.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import tempfile
from pathlib import Path

from .soak_clients import WORKFLOW, add_tools, reference_digests, run_all
from .soak_plan import plan_jobs
from .soak_report import GROWTH_LIMIT, Ended, page, summarise

logger = logging.getLogger(__name__)


def soak(edits: int, clients: int, steps: int, seed: int, interrupts: float) -> tuple[dict, list[Ended]]:
    """The figures of one run, and how each edit ended, in that order."""
    add_tools()
    import cli_runner
    import comfy_server
    import workspace

    jobs = plan_jobs(edits, clients, seed, interrupts)
    with tempfile.TemporaryDirectory() as folder:
        alone, together = (workspace.make_base(Path(folder) / name) for name in ("alone", "together"))
        with comfy_server.ComfyServer(alone) as server:
            graph = cli_runner.api_format(server, WORKFLOW)
            inputs = {job.edit for queue in jobs for job in queue}
            expected, seconds = reference_digests(server.url, graph, sorted(inputs, key=str), steps)
        logger.info("%d distinct edits, %.1f s each", len(expected), seconds)
        with comfy_server.ComfyServer(together) as server:
            ended, queued = run_all(server, graph, jobs, steps, seconds)
        left = [str(path.relative_to(together)) for path in together.rglob("*.tmp")]
    figures = summarise(ended, expected, sum(map(len, jobs)))
    machine = f"{platform.system()}, Python {platform.python_version()}, {os.cpu_count()} cores"
    figures |= {"clients": clients, "steps": steps, "seconds": round(queued, 1), "unfinished files": left}
    return figures | {"machine": machine}, ended


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, default=200)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4, help="of the inversion and of the sampler")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--interrupts", type=float, default=0.15, help="share of the edits whose client interrupts")
    parser.add_argument("--out", type=Path, help="folder for soak.json and soak.md")
    arguments = parser.parse_args(argv)
    if arguments.edits < arguments.clients or arguments.clients < 1:
        parser.error(f"--edits {arguments.edits}: give at least one to each of --clients {arguments.clients}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = {name: value for name, value in vars(arguments).items() if name != "out"}
    figures, ended = soak(**options)
    command = "python -m any2pix.benchmarks.soak " + " ".join(f"--{name} {value}" for name, value in options.items())
    text = page(figures, command)
    logger.info("%s", text)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        memory = [round(one.memory, 1) for one in ended]
        record = {"command": command, "figures": figures, "memory after each edit, MB": memory}
        (arguments.out / "soak.json").write_text(json.dumps(record, indent=1) + "\n")
        (arguments.out / "soak.md").write_text(text)
    return int(bool(figures["faults"]) or figures["growth"] > GROWTH_LIMIT)


if __name__ == "__main__":
    sys.exit(main())
