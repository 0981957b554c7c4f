"""An answer that cannot be read counts as wrong; any other error is one."""

import pytest
from any2pix.stages.any2pix.prompt import UnreadableAnswer
from any2pix.training import llm_scores


@pytest.fixture
def answering(monkeypatch):
    """Both scores of two edits, with an LLM that raises this."""

    def scores(error):
        def raise_it(*_):
            raise error

        monkeypatch.setattr(llm_scores, "to_reference", lambda *_: None)
        monkeypatch.setattr(llm_scores, "instruct", raise_it)
        return [f(None, None, 2, 1) for f in (llm_scores.held_out_scores, llm_scores.by_modality)]

    return scores


def test_an_unreadable_answer_is_a_wrong_one(answering):
    held_out, modalities = answering(UnreadableAnswer("The LLM's answer has no <im_gen>"))
    assert held_out["caption"] == 0 and modalities["same edit, caption as text"] == 0


def test_any_other_error_rises(answering):
    with pytest.raises(ValueError, match="The LLM reads embeddings of 64 numbers"):
        answering(ValueError("The LLM reads embeddings of 64 numbers, a reference has 32."))
