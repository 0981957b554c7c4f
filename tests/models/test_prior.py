"""The refinement prior: published key layout, what enters the sequence, gradients."""

import pytest
import torch
from any2pix.models.prior import MODALITIES, PriorDims, RefinementPrior, score_features
from torch import nn
from torch.testing import assert_close

CLIP = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 12,
    "bos_token_id": 38,
    "eos_token_id": 39,
}
DIMS = PriorDims(embed=8, width=24, layers=2, heads=2, score_features=10, clip=CLIP)


@pytest.fixture
def prior():
    torch.manual_seed(0)
    return RefinementPrior(DIMS).eval()


def batch(size=2, text=(38, 5, 6, 39)):
    generator = torch.Generator().manual_seed(1)
    return {
        "embedding": torch.randn(size, 8, generator=generator),
        "score": torch.full((size,), 6.5),
        "text_ids": torch.tensor([text] * size),
        "text_mask": torch.ones(size, len(text), dtype=torch.long),
        "modality": torch.full((size,), MODALITIES["video"]),
    }


def test_published_layout():
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in RefinementPrior(PriorDims.published()).state_dict().items()}
    ours = {key: shape for key, shape in shapes.items() if not key.startswith(("model.", "cond_stage_models."))}
    linears = {1: 1024, 2: 1024, 3: 512}
    assert ours == {
        "modality_embedding.weight": (10, 1024),
        "start_of_sequence_tokens.weight": (32, 1024),
        "end_of_sequence_tokens.weight": (32, 1024),
        **{f"input_sequence_embed_linear.{index}.weight": (1024, size) for index, size in linears.items()},
        **{f"input_sequence_embed_linear.{index}.bias": (1024,) for index in linears},
    }
    assert shapes["model.wte.weight"] == (50257, 1024) and shapes["model.wpe.weight"] == (1024, 1024)
    assert shapes["model.h.23.attn.c_attn.weight"] == (1024, 3072)  # GPT-2 stores (in, out)
    assert shapes["model.ln_f.bias"] == (1024,) and "model.h.24.ln_1.weight" not in shapes
    text = "cond_stage_models.0.model.text_model."
    assert shapes[text + "embeddings.token_embedding.weight"] == (49408, 1024)
    assert shapes[text + "encoder.layers.23.self_attn.q_proj.weight"] == (1024, 1024)
    assert shapes[text + "final_layer_norm.weight"] == (1024,)
    assert len(shapes) == 9 + (2 + 24 * 12 + 2) + (2 + 24 * 16 + 2)


def test_shape_and_rows_are_independent(prior):
    inputs = batch(3)
    out = prior(**inputs)
    assert out.shape == (3, 8)
    assert_close(prior(**{key: value[1:2] for key, value in inputs.items()}), out[1:2])


@pytest.mark.parametrize(
    "key, value",
    [
        ("embedding", torch.ones(2, 8)),
        ("score", torch.tensor([2.0, 2.0])),
        ("modality", torch.tensor([1, 1])),
        ("text_ids", torch.tensor([[38, 9, 6, 39]] * 2)),
    ],
)
def test_every_input_matters(prior, key, value):
    assert not torch.allclose(prior(**batch()), prior(**{**batch(), key: value}), atol=1e-5)


def test_padding_is_not_read(prior):
    inputs = batch(text=(38, 5, 39, 7, 7))
    inputs["text_mask"][:, 3:] = 0
    other = {**inputs, "text_ids": torch.tensor([[38, 5, 39, 1, 2]] * 2)}
    assert_close(prior(**inputs), prior(**other))


def test_unconditional_rows_see_neither_embedding_nor_score(prior):
    one, two = batch(), batch()
    two["embedding"], two["score"] = two["embedding"] * 3 + 1, torch.tensor([2.0, 9.0])
    assert_close(prior(**one, unconditional=True), prior(**two, unconditional=True))
    mixed = prior(**one, unconditional=torch.tensor([False, True]))
    assert_close(mixed[0], prior(**one)[0])
    assert_close(mixed[1], prior(**one, unconditional=True)[1])


def test_unconditional_score_features_are_all_two(prior):
    seen = []
    prior.input_sequence_embed_linear[3].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    prior(**batch(), unconditional=True)
    assert torch.equal(seen[0], torch.full((2, 1, 10), 2.0))


def test_score_features_are_diffusers_timestep_embedding():
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    score = torch.tensor([2.0, 6.5])
    expected = embeddings.get_timestep_embedding(score, 512, flip_sin_to_cos=True, downscale_freq_shift=0)
    assert_close(score_features(score, 512), expected)


def test_gradients_reach_everything_in_use(prior):
    inputs = batch()
    corrupted = inputs.pop("embedding")
    prior.training_loss(torch.randn(2, 8), corrupted, **inputs).backward()
    unused = {"model.wte.weight"}  # GPT-2's token table: the prior reads embeddings
    for name, parameter in prior.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        # a key's bias moves all scores of a query alike, and the softmax takes that out again
        assert reached != (name in unused) or name.endswith("k_proj.bias"), name


def test_loss_of_answering_zero_is_one():
    class Zero(RefinementPrior):
        def forward(self, embedding, *rest):
            return torch.zeros_like(embedding)

    inputs = batch()
    corrupted = inputs.pop("embedding")
    assert_close(Zero(DIMS).training_loss(torch.randn(2, 8), corrupted, **inputs), torch.tensor(1.0))


def test_operations_are_used_and_change_nothing(prior):
    class Operations:
        class Linear(nn.Linear):
            pass

        class Embedding(nn.Embedding):
            pass

        class LayerNorm(nn.LayerNorm):
            pass

    other = RefinementPrior(DIMS, Operations).eval()
    other.load_state_dict(prior.state_dict())
    assert set(other.state_dict()) == set(prior.state_dict())
    for name, module in other.named_modules():
        assert type(module) not in (nn.Linear, nn.Embedding, nn.LayerNorm), name
        assert type(module).__name__ != "Conv1D", name
    assert_close(other(**batch()), prior(**batch()))


def test_dims_survive_their_dict():
    assert PriorDims(**DIMS.to_dict()) == DIMS
