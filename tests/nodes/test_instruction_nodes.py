"""References, instruction, retrieval, refinement and mix."""

import any2pix.nodes as pack
import any2pix.nodes.instruct as instruct_node
import pytest
import torch
from any2pix.nodes.sockets import Embedding
from any2pix.stages.types import EditPlan, Reference, Subject

SECOND = 16_000


def sound(batch=1, seconds=2):
    generator = torch.Generator().manual_seed(1)
    return {"waveform": torch.rand(batch, 2, seconds * SECOND, generator=generator) - 0.5, "sample_rate": SECOND}


@pytest.fixture(scope="module")
def chain(run, networks):
    """Two pictures, a sound and a text."""
    generator = torch.Generator().manual_seed(2)
    pictures = torch.rand(2, 40, 56, 3, generator=generator)
    bind = {"imagebind": networks["imagebind"]}
    (references,) = run(pack.ImageEmbedding, image=pictures, **bind)
    (references,) = run(pack.AudioEmbedding, audio=sound(), references=references, **bind)
    return run(pack.TextEmbedding, text="a red balloon", references=references, **bind)[0]


def test_the_chain_keeps_its_order_and_every_item_of_a_batch(chain):
    assert [reference.modality for reference in chain] == ["image", "image", "audio", "text"]
    assert all(reference.embedding.shape == (64,) for reference in chain)
    assert chain[0].image.shape == (40, 56, 3) and chain[2].image is None


def test_a_batch_of_sounds_gives_one_reference_each(run, networks):
    (references,) = run(pack.AudioEmbedding, imagebind=networks["imagebind"], audio=sound(batch=3))
    assert len(references) == 3


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_cut_out_pictures_come_out_as_they_are_seen(run, networks, channels):
    picture = torch.rand(1, 20, 30, channels)
    (references,) = run(pack.ImageEmbedding, imagebind=networks["imagebind"], image=picture)
    image = references[0].image
    assert image.shape == (20, 30, 3)
    if channels == 4:
        torch.testing.assert_close(image, picture[0, ..., :3] * picture[0, ..., 3:] + 1 - picture[0, ..., 3:])


def test_silence_is_an_error(run, networks):
    silent = {"waveform": torch.zeros(1, 1, SECOND), "sample_rate": SECOND}
    with pytest.raises(ValueError, match="The sound is silent"):
        run(pack.AudioEmbedding, imagebind=networks["imagebind"], audio=silent)


def test_an_empty_batch_is_an_error(run, networks):
    with pytest.raises(ValueError, match="image of Load Image Embedding is empty"):
        run(pack.ImageEmbedding, imagebind=networks["imagebind"], image=torch.zeros(0, 8, 8, 3))


def ask(networks, references, instruction="add [audio1] to [image1]", tokens=3):
    with torch.inference_mode():
        return pack.Instruct.execute(
            llm=networks["llm"],
            references=references,
            instruction=instruction,
            seed=0,
            temperature=0.5,
            max_new_tokens=tokens,
        )


@pytest.fixture
def plan(monkeypatch):
    """The untrained LLM answers nothing sensible: this answer takes its place."""
    plan = EditPlan(
        torch.ones(64),
        torch.ones(64),
        "a cat in the rain",
        (Subject("cat", torch.ones(64)),),
        "Here it is. ...",
        (0, 2),
    )
    monkeypatch.setattr(instruct_node, "instruct", lambda *args, **kwargs: plan)
    return plan


def test_caption_and_answer_are_outputs_and_shown_on_the_node(networks, chain, plan):
    output = ask(networks, chain)
    edit, base, caption, subjects, answer = output.result
    assert (caption, answer, subjects) == (plan.caption, plan.answer, plan.subjects)
    assert torch.equal(edit.vector, plan.edit) and base.candidates == (0, 2)
    (shown,) = output.ui.as_dict()["text"]
    assert plan.caption in shown and plan.answer in shown


def test_an_unknown_mark_is_an_error_that_names_it(networks, chain):
    with pytest.raises(ValueError, match=r"names \[image3\], but only 2 image references are connected"):
        ask(networks, chain, "add [audio1] to [image3]")


def test_an_answer_without_an_embedding_is_an_error(networks, chain):
    with pytest.raises(ValueError, match="answer"):
        ask(networks, chain)


def test_cancel_stops_the_answer(networks, chain):
    import comfy.model_management as management

    management.interrupt_current_processing()
    with pytest.raises(management.InterruptProcessingException):
        ask(networks, chain)


def retrieve(references, **inputs):
    with torch.inference_mode():
        return pack.RetrieveBase.execute(references=references, blank_size=64, **inputs)


def test_the_nearest_picture_comes_out_in_its_own_size(chain):
    output = retrieve(chain, base=Embedding(3 * chain[1].embedding))
    image, embedding, index = output.result
    assert index == 1 and torch.equal(image[0], chain[1].image)
    assert float(embedding.vector.norm()) == pytest.approx(20.0)
    assert "→ [image2]  1.000" in output.ui.as_dict()["text"][0]


def test_a_sound_never_wins_while_a_picture_is_there(chain):
    assert retrieve(chain, base=Embedding(chain[2].embedding)).result[2] in (0, 1)


def test_base_null_gives_a_grey_picture_of_the_first_pictures_size(chain):
    output = retrieve(chain, base=Embedding(None))
    image, embedding, index = output.result
    assert image.shape == (1, 40, 56, 3) and image.unique().tolist() == [0.5]
    assert embedding.is_null and index == -1
    assert "painted from noise" in output.ui.as_dict()["text"][0]


def test_without_a_prediction_the_first_picture_is_taken(chain):
    assert retrieve((chain[2], *chain)).result[2] == 1
    image, embedding, index = retrieve((chain[2],)).result
    assert image.shape == (1, 64, 64, 3) and index == 0 and not embedding.is_null
    assert embedding.blank and not retrieve(chain).result[1].blank, "a sound is no picture that could be inverted"


def test_no_references_are_an_error():
    with pytest.raises(ValueError, match="got no references"):
        retrieve(())


@pytest.mark.parametrize("source", ["predicted", "audio", "text"])
def test_refined_embeddings_have_the_working_norm(run, networks, source):
    (refined,) = run(
        pack.Refine,
        prior=networks["prior"],
        embedding=Embedding(torch.randn(64)),
        source=source,
        aesthetic_score=6.5,
        guidance=10.0,
        text="a cat",
    )
    assert refined.vector.shape == (64,) and float(refined.vector.norm()) == pytest.approx(20.0, rel=1e-4)


def test_base_null_cannot_be_refined_or_edited(run, networks):
    with pytest.raises(ValueError, match="Refinement Prior got <base_null>"):
        run(
            pack.Refine,
            prior=networks["prior"],
            embedding=Embedding(None),
            source="predicted",
            aesthetic_score=6.5,
            guidance=10.0,
        )
    with pytest.raises(ValueError, match="Embedding Mix got <base_null>"):
        run(pack.MixEmbeddings, edit=Embedding(None), edit_weight=1.0, refined_weight=1.0, base_weight=0.0, norm=20.0)


def test_the_mix_leaves_base_null_out_and_has_the_norm_asked_for(run):
    vector = torch.randn(64)
    (mixed,) = run(
        pack.MixEmbeddings,
        edit=Embedding(vector),
        base=Embedding(None),
        edit_weight=0.5,
        refined_weight=1.0,
        base_weight=1.0,
        norm=8.0,
    )
    torch.testing.assert_close(mixed.vector, vector * 8 / vector.norm())


def test_the_released_mix_reads_a_reference_at_length_20_and_a_prediction_as_it_is(run):
    edit, refined, base = torch.eye(3, 64) * torch.tensor([[18.0], [1.0], [2.0]])
    for origin, length in (("reference", 20.0), ("prediction", 2.0)):
        (mixed,) = run(
            pack.MixEmbeddings,
            edit=Embedding(edit),
            refined=Embedding(refined),
            base=Embedding(base, origin=origin),
            edit_weight=0.5,
            refined_weight=1.0,
            base_weight=1.0,
            norm=20.0,
            formula="released",
        )
        expected = torch.tensor([9.0, 20.0, length] + [0.0] * 61)
        torch.testing.assert_close(mixed.vector, 20 * expected / expected.norm())


def test_references_of_another_imagebind_are_an_error(networks, chain):
    stranger = Reference(torch.ones(1024), "image", torch.zeros(8, 8, 3))
    with pytest.raises(ValueError, match="reads embeddings of 64 numbers, a reference has 1024"):
        ask(networks, (stranger, *chain))
