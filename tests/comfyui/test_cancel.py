"""Cancel stops the LLM, the inversion and the sampler within a second, and the next run is none the worse for it."""

import time

import numpy as np
import pytest
from harness.graphs import with_inputs

CANCEL_SECONDS = 1.0
ENDLESS = 1000  # steps: longer than any of these tests waits


def endless_llm(edit, slow_llm):
    edit = with_inputs(edit, "llm", name=slow_llm)
    return with_inputs(edit, "instruct", max_new_tokens=ENDLESS), "instruct"


def endless_inversion(edit, slow_llm):
    return with_inputs(edit, "inverted", steps=ENDLESS, iterations=50, tolerance=0.0), "inverted"


def endless_sampling(edit, slow_llm):
    """From noise: an inversion of as many steps would have to come first."""
    edit["empty"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": 1}}
    return with_inputs(edit, "sampled", steps=ENDLESS, latent=["empty", 0]), "sampled"


@pytest.mark.parametrize("endless", [endless_llm, endless_inversion, endless_sampling])
def test_cancel_within_a_second_and_a_clean_next_run(client, edit, slow_llm, endless):
    before = client.pictures(client.run(edit))
    graph, where = endless(with_inputs(edit, "saved", filename_prefix="cancelled"), slow_llm)
    run = client.queue(graph)
    client.wait_for(lambda: progress_of(run, where), 120, f"progress of {where}")
    asked = time.time()
    client.interrupt()
    client.wait(run, timeout=30)
    assert run.outcome == "execution_interrupted"
    # the server's own time: its garbage collection, which may follow at once, holds the message back
    (stopped,) = run.of_type("execution_interrupted")
    assert stopped["timestamp"] / 1000 - asked < CANCEL_SECONDS
    after = client.pictures(client.run(with_inputs(edit, "saved", filename_prefix="after")))
    np.testing.assert_array_equal(before, after)


def progress_of(run, node: str) -> bool:
    """Whether a node has told that it is somewhere beyond its first step."""
    return any(data.get("node") == node and data["value"] >= 1 for data in run.of_type("progress"))
