"""Guidance of the prior, its input scale, its prompts, its errors."""

import pytest
import torch
from any2pix.models.prior import INPUT_NORM, MODALITIES, PriorDims, RefinementPrior
from any2pix.stages.any2pix.refine import clip_prompts, refine
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch.testing import assert_close

WORDS = ("cat", "rain", "snow", "[UNK]")
CLIP = {
    "vocab_size": 6,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 6,
    "bos_token_id": 4,
    "eos_token_id": 5,
}
DIMS = PriorDims(embed=8, width=24, layers=2, heads=2, score_features=10, clip=CLIP)


@pytest.fixture
def prior():
    torch.manual_seed(0)
    return RefinementPrior(DIMS).eval().requires_grad_(False)


@pytest.fixture
def tokenizer():
    vocabulary = {word: index for index, word in enumerate((*WORDS, "<|startoftext|>", "<|endoftext|>"))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


@pytest.fixture
def embedding():
    return torch.randn(8, generator=torch.Generator().manual_seed(3))


def one_pass(prior, embedding, score=6.5, source="video", unconditional=False):
    ids, mask = torch.tensor([[4, 5]]), torch.ones(1, 2, dtype=torch.long)
    given = (embedding / embedding.norm() * INPUT_NORM)[None]
    return prior(given, torch.tensor([score]), ids, mask, torch.tensor([MODALITIES[source]]), unconditional)[0]


def test_guidance_one_is_the_conditional_pass(prior, embedding):
    assert_close(refine(prior, embedding, guidance=1.0), one_pass(prior, embedding))


def test_guidance_zero_is_the_unconditional_pass(prior, embedding):
    assert_close(refine(prior, embedding, guidance=0.0), one_pass(prior, embedding, unconditional=True))


@pytest.mark.parametrize("source", sorted(MODALITIES))
def test_defaults_are_the_released_call(prior, embedding, source):
    c = one_pass(prior, embedding, 6.5, source)
    u = one_pass(prior, embedding, 6.5, source, unconditional=True)
    out = refine(prior, embedding, source)
    assert out.shape == (8,)
    assert_close(out, u + 10.0 * (c - u))


def test_only_the_direction_of_the_input_counts(prior, embedding):
    assert_close(refine(prior, embedding), refine(prior, embedding * 37.0), rtol=1e-4, atol=1e-4)


def test_text_is_read_where_it_is_the_source(prior, embedding, tokenizer):
    prior.tokenizer = tokenizer
    plain = refine(prior, embedding, "text")
    assert not torch.allclose(refine(prior, embedding, "text", text="rain"), plain, atol=1e-4)
    assert_close(refine(prior, embedding, "video", text="rain"), refine(prior, embedding, "video"))


def test_text_alone(prior, tokenizer):
    prior.tokenizer = tokenizer
    ids, mask = torch.tensor([[4, 1, 5]]), torch.ones(1, 3, dtype=torch.long)
    expected = prior(torch.zeros(1, 8), torch.tensor([6.5]), ids, mask, torch.tensor([2]))[0]
    assert_close(refine(prior, None, "text", text="rain", guidance=1.0), expected)


def test_the_score_changes_the_answer(prior, embedding):
    assert not torch.allclose(refine(prior, embedding, score=2.0), refine(prior, embedding, score=7.0), atol=1e-4)


def test_prompts_are_enclosed_padded_and_cut(tokenizer):
    ids, mask = clip_prompts(tokenizer, ["cat rain", ""], CLIP)
    assert mask.tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert ids[0].tolist() == [4, 0, 1, 5] and ids[1, :2].tolist() == [4, 5]
    ids, mask = clip_prompts(tokenizer, ["cat rain snow cat rain snow"], CLIP)
    assert ids.tolist() == [[4, 0, 1, 2, 0, 5]] and mask.sum() == 6
    assert clip_prompts(None, ["", ""], CLIP)[0].tolist() == [[4, 5], [4, 5]]


def test_errors(prior, embedding):
    with pytest.raises(ValueError, match="image, audio, text, video, got 'depth'"):
        refine(prior, embedding, "depth")
    for score in (0.0, 11.0, float("nan")):
        with pytest.raises(ValueError, match=f"between 1 and 10, got {score}"):
            refine(prior, embedding, score=score)
    for guidance in (-1.0, float("inf")):
        with pytest.raises(ValueError, match=f"0 or more, got {guidance}"):
            refine(prior, embedding, guidance=guidance)
    with pytest.raises(ValueError, match=r"8 numbers, got shape \(1024,\)"):
        refine(prior, torch.ones(1024))
    with pytest.raises(ValueError, match="all zeros"):
        refine(prior, torch.zeros(8))
    with pytest.raises(ValueError, match="NaN"):
        refine(prior, embedding * float("nan"))
    with pytest.raises(ValueError, match="nothing to refine"):
        refine(prior, None, "text")
    with pytest.raises(ValueError, match="tokenizer.json"):
        refine(prior, embedding, "text", text="rain")
