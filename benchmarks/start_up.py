"""What the pack adds to ComfyUI's start: python -m any2pix.benchmarks.start_up --repeats 5

In turns, in fresh processes with ComfyUI's own nodes imported: the seconds in which ComfyUI loads this pack, and those
in which it loads a pack without nodes. One repeat more warms the files up and is not counted.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from ..evaluation.rates import markdown_table
from .soak_clients import add_tools

logger = logging.getLogger(__name__)
EMPTY_PACK = "NODE_CLASS_MAPPINGS = {}\n"
SCRIPT = """
import asyncio, gc, json, sys, tempfile, time
host, pack = sys.argv[1:]
sys.path.insert(0, host)
sys.argv = sys.argv[:1]
from comfy.cli_args import args
args.cpu, args.base_directory = True, tempfile.mkdtemp()
import nodes, comfy_api.latest
asyncio.run(nodes.init_builtin_extra_nodes())
before = set(sys.modules)
gc.collect()
started = time.perf_counter()
loaded = asyncio.run(nodes.load_custom_node(pack))
seconds = time.perf_counter() - started
brought = sorted({name.split(".")[0] for name in set(sys.modules) - before if "/" not in name})
print(json.dumps({"seconds": seconds, "loaded": bool(loaded), "modules": brought}))
"""


def load_once(python: Path, host: Path, pack: Path) -> dict:
    """{"seconds", "loaded", "modules": top names of what was imported} of one start."""
    command = [str(python), "-c", SCRIPT, str(host), str(pack)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    if done.returncode:
        raise RuntimeError(f"ComfyUI at {host} did not start:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(repeats: int) -> dict[str, list[dict]]:
    """Starts with this pack and with an empty one, in turns."""
    add_tools()
    import workspace

    found: dict[str, list[dict]] = {"this pack": [], "an empty pack": []}
    with tempfile.TemporaryDirectory() as folder:
        workspace.link_pack(Path(folder))
        empty = Path(folder) / "empty"
        empty.mkdir()
        (empty / "__init__.py").write_text(EMPTY_PACK)
        packs = {"this pack": Path(folder) / workspace.PACK_NAME, "an empty pack": empty}
        for _ in range(repeats + 1):
            for name, pack in packs.items():
                found[name].append(load_once(workspace.comfyui_python(), workspace.comfyui_path(), pack))
    if not all(start["loaded"] for starts in found.values() for start in starts):
        raise RuntimeError("ComfyUI could not load a pack: start it and read its log.")
    return {name: starts[1:] for name, starts in found.items()}


def table(found: dict[str, list[dict]]) -> str:
    """Medians, and the ratio to the empty pack."""
    medians = {name: statistics.median(start["seconds"] for start in starts) for name, starts in found.items()}
    least = medians["an empty pack"]
    rows = [
        (name, f"{seconds:.3f}", f"{seconds / least:.1f}", ", ".join(found[name][0]["modules"]) or "-")
        for name, seconds in medians.items()
    ]
    return markdown_table(("pack", "seconds", "ratio", "imported by it"), rows)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logger.info("%s", table(measure(arguments.repeats)))


if __name__ == "__main__":
    main()
