"""/free gives the memory of the networks back."""

import time

import psutil
import torch
from any2pix.loading.files import write_network_file
from any2pix.loading.kinds import KINDS
from any2pix.models.two_view import TwoViewAdapter, TwoViewDims
from harness.edit_graph import only
from harness.graphs import with_inputs

GIVEN_BACK = 0.8  # of the network's weights; the rest may stay with the allocator
MEGABYTE = 2**20


def resident(server) -> float:
    """Megabytes of memory that the server holds."""
    return psutil.Process(server.process.pid).memory_info().rss / MEGABYTE


def test_free_unloads_a_network(server, client, edit, slow_llm, slow_llm_megabytes):
    client.run(edit)
    client.free()
    time.sleep(1)
    empty = resident(server)
    run = client.queue(with_inputs(with_inputs(edit, "llm", name=slow_llm), "instruct", max_new_tokens=1))
    client.wait(run)
    assert (
        run.error["node_type"] == "Any2PixInstruct"
    )  # the random network says nothing of use: it was loaded, that is all
    assert_given_back(server, client, empty, slow_llm_megabytes)


def test_free_unloads_a_two_view_adapter(server, client, edit):
    """One too large to be overlooked. It is for another UNet, which the node behind the loader says."""
    dims = TwoViewDims(embed=64, context=1024, widths=(1024,) * 48)
    with torch.device("meta"):
        layout = TwoViewAdapter(dims).state_dict()
    weights = {key: torch.zeros(value.shape, dtype=torch.float16) for key, value in layout.items()}
    file = server.base / "models" / KINDS["two_view"].folder / "large.safetensors"
    write_network_file(file, "two_view", weights, dims.to_dict())
    graph = with_inputs(only(edit, "source", "saved"), "adapter", name=file.name, precision="fp32")
    client.run(edit)
    client.free()
    time.sleep(1)
    empty = resident(server)
    run = client.wait(client.queue(graph))
    assert run.error["node_type"] in ("Any2PixApplyEmbedding", "Any2PixSampler")
    file.unlink()
    assert_given_back(server, client, empty, sum(4 * value.numel() for value in layout.values()) / MEGABYTE)


def assert_given_back(server, client, empty: float, megabytes: float) -> None:
    """The server holds a network of this size now, and no longer does after /free."""
    assert resident(server) - empty > GIVEN_BACK * megabytes
    client.free()
    deadline = time.monotonic() + 20
    while resident(server) - empty > (1 - GIVEN_BACK) * megabytes and time.monotonic() < deadline:
        time.sleep(0.5)
    assert resident(server) - empty < (1 - GIVEN_BACK) * megabytes
