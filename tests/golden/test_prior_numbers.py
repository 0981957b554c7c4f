"""The refinement prior against the authors' numbers: every source, several scores, guidance, padded prompts."""

import pytest
import torch
from any2pix.models.prior import PriorDims, RefinementPrior
from any2pix.stages.any2pix.refine import refine
from golden_inputs import seeded
from golden_inputs.prior import END, PROMPT, SIZES, START, WORD_IDS, clip_arguments, source_embedding
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

TOLERANCE = 1e-4  # relative error of every output, issue 3


def prior_of(size: str, seed: int) -> RefinementPrior:
    sizes = SIZES[size]
    dims = PriorDims(
        embed=sizes["embed"],
        width=sizes["width"],
        layers=sizes["layers"],
        heads=sizes["heads"],
        clip=clip_arguments(sizes),
    )
    prior = RefinementPrior(dims).eval()
    seeded.fill(prior, seed)
    prior.tokenizer = Tokenizer(WordLevel({**WORD_IDS, "<|startoftext|>": START, "<|endoftext|>": END}))
    prior.tokenizer.pre_tokenizer = Whitespace()
    return prior


@pytest.mark.parametrize("size", ["small", pytest.param("wide", marks=pytest.mark.slow)])
def test_refined_embeddings_are_the_authors(size):
    golden = seeded.load(f"prior_{size}")
    prior = prior_of(size, golden.notes["seed"])
    given = source_embedding(prior.dims.embed)[0]
    errors = {}
    for case, expected in golden.tensors.items():
        source, score, guidance = case.split("/")
        embedding = None if source == "text alone" else 0.03 * given  # the prior's stage brings it to length 100 itself
        with torch.no_grad():
            ours = refine(prior, embedding, source.split()[0], PROMPT, float(score), float(guidance))
        errors[case] = seeded.relative_error(ours, expected)
    assert len(errors) > 8
    assert max(errors.values()) < TOLERANCE, errors
