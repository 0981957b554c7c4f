"""/free gives the memory of the networks back."""

import time

import psutil
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
    loaded = resident(server)
    assert loaded - empty > GIVEN_BACK * slow_llm_megabytes
    client.free()
    deadline = time.monotonic() + 20
    while resident(server) - empty > (1 - GIVEN_BACK) * slow_llm_megabytes and time.monotonic() < deadline:
        time.sleep(0.5)
    assert resident(server) - empty < (1 - GIVEN_BACK) * slow_llm_megabytes
