"""Prompts behind each other, and the same prompt twice."""

import numpy as np
from harness.graphs import with_inputs


def test_two_prompts_behind_each_other_both_give_their_own_picture(client, edit):
    first, second = (with_inputs(edit, "noise", seed=seed, alpha=0.2) for seed in (3, 4))
    runs = [client.queue(first), client.queue(second)]
    for run in runs:
        client.wait(run)
        assert run.outcome == "execution_success", run.error
    ended = [next(moment for moment, kind, _ in run.messages if kind == "execution_success") for run in runs]
    assert ended[0] < ended[1]
    assert not np.array_equal(*(client.pictures(run)[0] for run in runs))


def test_a_seed_gives_the_same_picture_from_a_cold_server(client, edit):
    (before,) = client.pictures(client.run(edit))
    client.free()
    run = client.run(with_inputs(edit, "saved", filename_prefix="cold"))
    assert "Any2PixLoadLLM" in run.classes(run.executed), "/free should have emptied the cache"
    np.testing.assert_array_equal(before, client.pictures(run)[0])
