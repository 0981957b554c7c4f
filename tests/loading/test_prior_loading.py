"""Refinement prior files: ours, the published layout, broken ones."""

from dataclasses import replace

import pytest
import torch
from any2pix.loading.files import CheckpointError, write_network_file
from any2pix.loading.prior import load_prior, prior_dims
from any2pix.models.prior import MODALITIES, PriorDims, RefinementPrior
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.testing import assert_close


@pytest.fixture
def prior(networks):
    torch.manual_seed(0)
    dims = replace(networks["prior"].dims, embed=128, width=128, layers=3, heads=2)
    return RefinementPrior(dims).eval().requires_grad_(False)


def answer(prior):
    ids = torch.tensor([[18, 3, 19]])
    embedding = torch.randn(1, prior.dims.embed, generator=torch.Generator().manual_seed(1))
    return prior(embedding, torch.tensor([6.5]), ids, torch.ones_like(ids), torch.tensor([MODALITIES["video"]]))


def tokenizer_json():
    return Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]")).to_str()


def test_our_file(prior, tmp_path):
    path = tmp_path / "prior.safetensors"
    write_network_file(path, "prior", prior.state_dict(), prior.dims.to_dict(), tokenizer_json())
    loaded = load_prior(path)
    assert loaded.dims == prior.dims and not loaded.training and loaded.tokenizer.to_str() == tokenizer_json()
    assert_close(answer(loaded), answer(prior))


def test_another_width_than_the_embedding(networks, tmp_path):
    clip = {**networks["prior"].dims.clip, "num_attention_heads": 4}
    dims = PriorDims(embed=8, width=24, layers=1, heads=2, score_features=6, clip=clip)
    prior = RefinementPrior(dims).eval().requires_grad_(False)
    path = tmp_path / "prior.safetensors"
    write_network_file(path, "prior", prior.state_dict(), dims.to_dict())
    assert_close(answer(load_prior(path)), answer(prior))


def test_published_file_with_what_old_versions_stored(prior, tmp_path):
    """A bare torch file: sizes from the shapes, causal masks and position counters of old versions passed over."""
    constants = {f"model.h.{layer}.attn.bias": torch.ones(1, 1, 40, 40).tril() for layer in range(3)}
    constants |= {f"model.h.{layer}.attn.masked_bias": torch.tensor(-1e4) for layer in range(3)}
    constants["cond_stage_models.0.model.text_model.embeddings.position_ids"] = torch.arange(12)[None]
    torch.save({**prior.state_dict(), **constants}, tmp_path / "model.bin")
    loaded = load_prior(tmp_path / "model.bin")
    assert loaded.dims == prior.dims and loaded.tokenizer is None
    assert not any(value.is_meta for value in [*loaded.parameters(), *loaded.buffers()])
    assert_close(answer(loaded), answer(prior))

    given = Tokenizer.from_str(tokenizer_json())
    assert load_prior(tmp_path / "model.bin", tokenizer=given).tokenizer is given
    (tmp_path / "tokenizer.json").write_text(tokenizer_json())
    assert load_prior(tmp_path / "model.bin").tokenizer.to_str() == tokenizer_json()


def test_published_sizes_come_out_of_the_shapes():
    published = PriorDims.published()
    with torch.device("meta"):
        tensors = RefinementPrior(published).state_dict()
    assert prior_dims(tensors, "model.bin") == published


def test_missing_and_unexpected_tensors_are_named(prior, tmp_path):
    tensors = dict(prior.state_dict())
    for key in ("model.wpe.weight", "input_sequence_embed_linear.3.bias", "model.h.1.mlp.c_fc.weight"):
        torch.save({name: value for name, value in tensors.items() if name != key}, tmp_path / "model.bin")
        with pytest.raises(CheckpointError, match=key):
            load_prior(tmp_path / "model.bin")
    torch.save({**tensors, "noise_embedding.weight": torch.zeros(2)}, tmp_path / "model.bin")
    with pytest.raises(CheckpointError, match="not expected: noise_embedding.weight"):
        load_prior(tmp_path / "model.bin")


def test_damaged_files(prior, tmp_path):
    path = tmp_path / "prior.safetensors"
    tensors = {**prior.state_dict(), "modality_embedding.weight": torch.full((10, 128), float("nan"))}
    write_network_file(path, "prior", tensors, prior.dims.to_dict())
    with pytest.raises(CheckpointError, match="NaN in 'modality_embedding.weight'"):
        load_prior(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cut short"):
        load_prior(path)
    with pytest.raises(CheckpointError, match="prior/model.bin"):
        load_prior(tmp_path / "absent.bin")
