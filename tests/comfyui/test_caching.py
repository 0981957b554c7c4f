"""Turning a late knob reruns neither the encoders, nor the LLM, nor the inversion: the server's own messages say so."""

import pytest
from harness.edit_graph import EDIT_LOADERS
from harness.graphs import with_inputs

EXPENSIVE = EDIT_LOADERS | {"Any2PixImageEmbedding", "Any2PixAudioEmbedding", "Any2PixInstruct", "Any2PixDDIMInvert"}
# node of the edit graph, the change, and what may run again because of it
AFTER_SAMPLING = {"Any2PixSampler", "VAEDecode", "SaveImage"}
KNOBS = [
    ("noise", {"alpha": 0.31}, {"Any2PixNoiseMix"}),
    ("noise", {"seed": 31}, {"Any2PixNoiseMix"}),
    ("mixed", {"edit_weight": 0.9}, {"Any2PixMixEmbeddings"}),
    ("mixed", {"refined_weight": 0.3}, {"Any2PixMixEmbeddings"}),
    ("mixed", {"base_weight": 0.35}, {"Any2PixMixEmbeddings"}),
    ("sampled", {"cfg": 2.75}, set()),
    ("sampled", {"seed": 77}, set()),
    ("refined", {"aesthetic_score": 4.0}, {"Any2PixRefine", "Any2PixMixEmbeddings"}),
]


@pytest.mark.parametrize(
    "name, change, directly", KNOBS, ids=lambda value: str(value) if isinstance(value, dict) else ""
)
def test_a_late_knob_reruns_only_what_hangs_on_it(client, edit, name, change, directly):
    client.run(edit)
    run = client.run(with_inputs(edit, name, **change))
    assert run.classes(run.executed) == directly | AFTER_SAMPLING
    assert run.classes(run.cached) >= EXPENSIVE


def test_a_repeated_prompt_runs_nothing(client, edit):
    client.run(edit)
    run = client.run(edit)
    assert not run.executed


def test_another_instruction_keeps_the_loaders_and_the_embeddings(client, edit):
    client.run(edit)
    run = client.run(with_inputs(edit, "instruct", instruction="put [audio1] into [image1]"))
    assert "Any2PixInstruct" in run.classes(run.executed)
    assert EDIT_LOADERS | {"Any2PixImageEmbedding", "Any2PixAudioEmbedding"} <= run.classes(run.cached)
