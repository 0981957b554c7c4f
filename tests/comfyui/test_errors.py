"""A bad graph gets an error that names the value and the remedy, on the node that it is about."""

import io
import wave

import pytest
from comfyui_client.client import PromptRejected
from harness.edit_graph import STEPS, only
from harness.graphs import with_inputs


def silence(seconds: float = 2.0, rate: int = 16000) -> bytes:
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(2 * int(seconds * rate)))
    return data.getvalue()


def node_error(client, graph: dict) -> tuple[str, str]:
    """(id of the node that failed, what it said)."""
    run = client.wait(client.queue(graph))
    assert run.outcome == "execution_error"
    return run.error["node_id"], run.error["exception_message"]


def test_a_mark_without_its_reference(client, edit):
    graph = with_inputs(edit, "instruct", instruction="put [image3] into [image1]")
    where, said = node_error(client, graph)
    assert where == "instruct"
    assert "[image3]" in said and "Connect" in said


def test_a_sampler_with_other_steps_than_the_inversion(client, edit):
    where, said = node_error(client, with_inputs(edit, "sampled", steps=STEPS + 1))
    assert where == "sampled"
    assert f"{STEPS} steps" in said and "Set steps" in said


def test_a_sampler_with_another_scheduler_than_the_inversion(client, edit):
    inverted = edit["inverted"]["inputs"]["scheduler"]
    other = "karras" if inverted != "karras" else "normal"
    where, said = node_error(client, with_inputs(edit, "sampled", scheduler=other))
    assert where == "sampled"
    assert f"Set scheduler to '{inverted}'" in said


def test_noise_mix_of_a_latent_that_was_not_inverted(client, edit):
    where, said = node_error(client, with_inputs(edit, "noise", latent=["encoded", 0]))
    assert where == "noise"
    assert "DDIM Invert" in said


def test_inverting_an_empty_latent(client, edit):
    edit["empty"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": 1}}
    where, said = node_error(client, with_inputs(edit, "inverted", latent=["empty", 0]))
    assert where == "inverted"
    assert "empty latent" in said


def test_a_silent_sound(client, edit):
    name = client.upload(silence(), "silence.wav")
    where, said = node_error(client, with_inputs(edit, "sound", audio=name))
    assert where == "heard"
    assert "silen" in said


def test_an_answer_that_was_cut_off(client, edit):
    where, said = node_error(client, with_inputs(edit, "instruct", max_new_tokens=2))
    assert where == "instruct"
    assert "max_new_tokens" in said


@pytest.mark.parametrize("loader", ["imagebind", "llm", "prior", "adapter", "diffusion"])
def test_a_file_that_is_not_there(client, edit, loader):
    graph = with_inputs(edit, loader, name="gone.safetensors")
    with pytest.raises(PromptRejected) as caught:
        client.queue(only(graph, "saved"))
    said = str(caught.value.answer["node_errors"][loader]["errors"])
    assert "gone.safetensors" in said
    assert "any2pix" in said, "the error should name the folder that was searched"


@pytest.mark.parametrize(
    ("where", "widget"),
    [("inverted", "scheduler"), ("sampled", "scheduler"), ("sampled", "sampler_name"), ("noise", "mode")],
)
def test_a_name_that_is_not_installed(client, edit, where, widget):
    """ComfyUI's own sampler would take its first one; nothing runs here."""
    with pytest.raises(PromptRejected) as caught:
        client.queue(only(with_inputs(edit, where, **{widget: "bong_tangent"}), "saved"))
    said = str(caught.value.answer["node_errors"][where]["errors"])
    assert f"{widget} of " in said and "'bong_tangent'" in said and "Choose one of" in said


@pytest.mark.parametrize("loader", ["llm", "prior"])
def test_a_precision_that_is_not_there(client, edit, loader):
    """Named as the graph is sent by newer ComfyUIs, and as the loader runs by older ones."""
    graph = only(with_inputs(edit, loader, precision="int4"), "saved")
    try:
        where, said = node_error(client, graph)
    except PromptRejected as rejected:
        where, said = loader, str(rejected.answer["node_errors"])
    assert where == loader and "precision" in said and "int4" in said


def test_an_edit_that_is_not_wired_up(client, edit):
    del edit["instruct"]["inputs"]["llm"]
    with pytest.raises(PromptRejected) as caught:
        client.queue(edit)
    (error,) = caught.value.answer["node_errors"]["instruct"]["errors"]
    assert (error["type"], error["extra_info"]["input_name"]) == ("required_input_missing", "llm")
