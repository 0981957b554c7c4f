"""Graphs that no page would send: the server turns them down, or our nodes answer, or say in a sentence what is wrong.

The suite runs a share; ``make fuzz GRAPHS=1000 SEED=1`` runs more.
"""

import json
import os

import psutil
from comfyui_client.client import PromptRejected
from harness.edit_graph import NODE_IDS
from harness.fuzz_graphs import Graphs

GRAPHS, SEED = int(os.environ.get("FUZZ_GRAPHS", "25")), int(os.environ.get("FUZZ_SEED", "1"))
OLD_FINDS = (
    1_000_040,  # a list as the name of a file to save
    1_000_064,  # a number in the place of a model
)
LONGEST = 30  # seconds of one graph
SHORTEST_MESSAGE = 20  # letters; less says neither what nor what to do
NAMED = {"ValueError", "FileNotFoundError", "CheckpointError"}
OURS = "instructany2pix"  # the folder of the pack among the custom nodes, in a traceback
WARM = 150  # graphs after which the memory is looked at
GROWTH = 1.1  # of the memory after WARM graphs, at the end


def found_in(client, graph: dict) -> str | None:
    """What is wrong with how a graph went, or None."""
    try:
        run = client.queue(graph)
    except PromptRejected as rejected:
        failed = [
            error["extra_info"]
            for told in rejected.answer["node_errors"].values()
            for error in told["errors"]
            if OURS in "".join(error["extra_info"].get("traceback", ()))
        ]
        # wires in a circle: the host follows them until Python stops it, wherever it is then
        failed = [info for info in failed if info["exception_type"] != "RecursionError"]
        return f"its check failed: {json.dumps(failed)[-2000:]}" if failed else None
    client.wait(run, LONGEST)
    if run.error is None:
        return None
    said, kind = run.error["exception_message"], run.error["exception_type"]
    if run.error["node_type"] not in NODE_IDS and OURS not in "".join(run.error["traceback"]):
        return None  # what another node does not take
    if kind.rpartition(".")[2] not in NAMED:
        return f"{run.error['node_type']}: {kind}: {said}\n{''.join(run.error['traceback'][-4:])}"
    return f"{run.error['node_type']} says too little: {said!r}" if len(said.strip()) < SHORTEST_MESSAGE else None


def test_old_finds_stay_mended(client, object_info):
    graphs = Graphs(object_info)
    assert [found for seed in OLD_FINDS if (found := found_in(client, graphs.draw(seed)))] == []


def test_the_server_goes_on_and_nothing_goes_wrong_without_a_sentence(server, client, object_info, edit):
    graphs, finds, warm = Graphs(object_info), [], 0
    process = psutil.Process(server.process.pid)
    for number in range(GRAPHS):
        seed = SEED * 1_000_000 + number
        try:
            found = found_in(client, graphs.draw(seed))
        except (OSError, TimeoutError) as error:
            finds.append(f"{seed}: no answer, and no graph after it was tried: {error!r}")
            break
        finds += [f"{seed}: {found}"] if found else []
        if number == WARM:
            warm = process.memory_info().rss
    grown = process.memory_info().rss
    if warm and grown > GROWTH * warm:
        finds.append(f"memory: {warm >> 20} MiB after {WARM} graphs, {grown >> 20} MiB after {GRAPHS}")
    assert not finds, f"{len(finds)} finds in {GRAPHS} graphs\n\n" + "\n\n".join(finds)
    assert client.run(edit).outcome == "execution_success"
