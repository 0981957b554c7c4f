import inspect
import warnings

import pytest
import torch
from any2pix.models.mm_llm import (
    EMBED_NORM,
    IGNORE_INDEX,
    LLMBatch,
    MMLLMDims,
    MultimodalLLM,
    RotaryEmbedding,
    cache_argument,
)
from any2pix.models.operations import swap_operations
from torch import nn
from transformers import DynamicCache, GPT2Config, GPT2Model, LlamaConfig, LlamaForCausalLM, LlamaModel

LLAMA = dict(
    vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=64,
)  # fmt: skip


def make_llm(merge="add", operations=nn, seed=0):
    torch.manual_seed(seed)
    return MultimodalLLM(MMLLMDims(embed=8, llama=LLAMA, projector_hidden=16, merge=merge), operations).eval()


def inputs(length=12):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 40, (2, length), generator=generator)
    return ids, torch.randn(2, 3, 8, generator=generator), torch.tensor([[3, 5, -1], [2, -1, -1]])


@torch.no_grad()
def test_state_dict_is_the_published_layout():
    llm = make_llm()
    plain = LlamaForCausalLM(LlamaConfig(**LLAMA))
    heads = {
        f"model.vae_{name}_image.{layer}.{part}"
        for name in ("projector", "predictor")
        for layer in (0, 2)
        for part in ("weight", "bias")
    }
    assert set(llm.state_dict()) == set(plain.state_dict()) | heads


@torch.no_grad()
def test_same_numbers_as_hugging_face_llama():
    llm, (ids, _, _) = make_llm(), inputs()
    plain = LlamaForCausalLM(LlamaConfig(**LLAMA)).eval()
    plain.load_state_dict({key: value for key, value in llm.state_dict().items() if "vae_" not in key})
    torch.testing.assert_close(llm(ids).logits, plain(ids).logits)


@torch.no_grad()
def test_cache_gives_the_same_states_as_one_pass():
    llm, (ids, references, positions) = make_llm(), inputs()
    whole = llm(ids, references, positions)
    cache = DynamicCache()
    parts = [llm(ids[:, :7], references, positions, past_key_values=cache)]
    parts += [llm(ids[:, i : i + 1], past_key_values=cache) for i in range(7, 12)]
    torch.testing.assert_close(torch.cat([part.hidden for part in parts], 1), whole.hidden)
    torch.testing.assert_close(torch.cat([part.logits for part in parts], 1), whole.logits)
    assert whole.past_key_values is None


@torch.no_grad()
def test_the_cache_goes_in_under_a_name_that_stays():
    """transformers warns of what it will take away: past_key_values goes in 5.40."""
    llm, (ids, references, positions), cache = make_llm(), inputs(), DynamicCache()
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        llm(ids, references, positions, past_key_values=cache)
    assert cache.get_seq_length() == ids.shape[1]


def test_the_name_of_the_cache_is_read_from_the_network():
    assert cache_argument(lambda inputs_embeds, past_key_values=None, **kwargs: None) == "past_key_values"
    assert cache_argument(lambda inputs_embeds, cache=None, **kwargs: None) == "cache"
    assert make_llm().cache_argument in inspect.signature(LlamaModel.forward).parameters


@torch.no_grad()
def test_padding_on_the_right_changes_nothing():
    llm, (ids, references, positions) = make_llm(), inputs()
    padded = torch.cat([ids, torch.zeros(2, 5, dtype=torch.long)], 1)
    torch.testing.assert_close(
        llm(padded, references, positions).logits[:, :12], llm(ids, references, positions).logits
    )


@pytest.mark.parametrize("merge", ["add", "substitute"])
@torch.no_grad()
def test_references_are_merged_at_norm_20(merge):
    llm, (ids, references, positions) = make_llm(merge), inputs()
    tokens = llm.model.embed_tokens(ids)
    projected = llm.model.vae_projector_image(references / references.norm(dim=-1, keepdim=True) * EMBED_NORM)
    expected = tokens.clone()
    for row, column, position in ((0, 0, 3), (0, 1, 5), (1, 0, 2)):
        expected[row, position] = projected[row, column] + (tokens[row, position] if merge == "add" else 0)
    torch.testing.assert_close(llm.embed(ids, references, positions), expected)
    torch.testing.assert_close(
        llm.embed(ids, references * 7, positions), expected
    )  # the norm of what comes in does not matter


def test_unknown_merge_is_named():
    with pytest.raises(ValueError, match="'concat'"):
        MMLLMDims(embed=8, llama=LLAMA, projector_hidden=16, merge="concat")


def make_batch():
    ids, references, positions = inputs()
    labels = ids.clone()
    labels[:, :6] = IGNORE_INDEX
    targets = torch.randn(2, 2, 8, generator=torch.Generator().manual_seed(2))
    return LLMBatch(ids, labels, references, positions, targets, torch.tensor([[7, 10], [-1, 9]]))


def test_every_parameter_gets_a_gradient():
    llm = make_llm()
    llm.training_loss(make_batch())["loss"].backward()
    assert [name for name, p in llm.named_parameters() if p.grad is None or not p.grad.any()] == []


@torch.no_grad()
def test_embedding_loss_is_taken_at_the_state_before_the_video_token():
    llm, batch = make_llm(), make_batch()
    losses = llm.training_loss(batch)
    hidden = llm(batch.input_ids, batch.references, batch.reference_positions).hidden

    def distance(row, column, position):
        target = batch.targets[row, column] / batch.targets[row, column].norm() * EMBED_NORM
        return (llm.predict_embedding(hidden[row, position - 1]) - target).square().mean()

    torch.testing.assert_close(losses["base"], distance(0, 0, 7))
    torch.testing.assert_close(losses["generated"], (distance(0, 1, 10) + distance(1, 1, 9)) / 2)
    torch.testing.assert_close(losses["loss"], losses["text"] + losses["base"] + losses["generated"])
    assert llm.training_loss(batch, embedding_loss="l1")["base"] < losses["base"]
    with pytest.raises(ValueError, match="huber"):
        llm.training_loss(batch, embedding_loss="huber")


@torch.no_grad()
def test_loss_without_any_base():
    llm, batch = make_llm(), make_batch()
    batch.target_positions[:, 0] = -1
    assert llm.training_loss(batch)["base"] == 0


def test_training_lowers_the_loss():
    llm, batch = make_llm(), make_batch()
    optimizer = torch.optim.AdamW(llm.parameters(), lr=1e-2)
    before = None
    for _ in range(40):
        loss = llm.training_loss(batch)["loss"]
        before = loss.item() if before is None else before
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < before / 2


@torch.no_grad()
def test_built_on_meta_and_in_half_precision():
    llm, (ids, references, positions) = make_llm(), inputs()
    with torch.device("meta"):
        skeleton = MultimodalLLM(llm.dims)
    skeleton.load_state_dict(llm.state_dict(), assign=True)
    assert not any(t.is_meta for t in (*skeleton.parameters(), *skeleton.buffers()))
    torch.testing.assert_close(
        skeleton.eval()(ids, references, positions).logits, llm(ids, references, positions).logits
    )
    half = make_llm().bfloat16()(ids, references, positions)
    assert half.logits.dtype == torch.bfloat16
    torch.testing.assert_close(half.logits.float(), llm(ids, references, positions).logits, atol=0.05, rtol=0.05)


def test_rotary_angles_stay_exact_in_half_precision():
    rotary = RotaryEmbedding(10000.0, 8).half()
    cos, _ = rotary(torch.zeros(1, 1, 8), torch.tensor([[1000]]))
    torch.testing.assert_close(cos[0, 0, 1], torch.tensor(1000 / 10000 ** (2 / 8)).cos())


def test_scaled_rotary_is_refused():
    with pytest.raises(ValueError, match="rope_scaling"):
        MultimodalLLM(
            MMLLMDims(embed=8, llama={**LLAMA, "rope_scaling": {"type": "linear", "factor": 4.0}}, projector_hidden=16)
        )


class Counting:
    """An ``operations`` namespace that counts its calls, as a host's classes that cast at use would be called."""

    calls: list = []

    @classmethod
    def wrap(cls, base):
        def forward(self, *args, **kwargs):
            cls.calls.append(base.__name__)
            return base.forward(self, *args, **kwargs)

        return type(base.__name__, (base,), {"forward": forward})


for _base in (nn.Linear, nn.Embedding, nn.LayerNorm, nn.RMSNorm, nn.Conv2d):
    setattr(Counting, _base.__name__, Counting.wrap(_base))


@torch.no_grad()
def test_swapped_operations_give_the_same_numbers():
    llm, swapped, (ids, references, positions) = make_llm(), make_llm(operations=Counting), inputs()
    Counting.calls.clear()
    torch.testing.assert_close(swapped(ids, references, positions).logits, llm(ids, references, positions).logits)
    assert {name: Counting.calls.count(name) for name in set(Counting.calls)} == {
        "Embedding": 1,
        "RMSNorm": 5,
        "Linear": 2 * 7 + 2 + 1,
    }
    left = [type(module).__module__ for module in swapped.modules() if list(module.parameters(recurse=False))]
    assert not [name for name in left if name.startswith(("torch", "transformers"))]


@torch.no_grad()
def test_swap_reaches_gpt2_and_keeps_its_state_dict():
    torch.manual_seed(0)
    config = GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=12, n_positions=16, bos_token_id=0, eos_token_id=1)
    plain = GPT2Model(config).eval()
    state = {key: value.clone() for key, value in plain.state_dict().items()}
    x = torch.randn(1, 5, 16)
    expected = plain(inputs_embeds=x).last_hidden_state
    swapped = swap_operations(GPT2Model(config).eval(), Counting)
    swapped.load_state_dict(state)
    torch.testing.assert_close(swapped(inputs_embeds=x).last_hidden_state, expected)
    torch.testing.assert_close(swapped.state_dict(), plain.state_dict())


@torch.no_grad()
def test_swap_reaches_convolutions_and_leaves_torch_nn_alone():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False), nn.LayerNorm(4, eps=1e-3))
    x = torch.randn(1, 3, 8, 8)
    expected = net(x)
    assert swap_operations(net, nn)[0] is net[0] and type(net[0]) is nn.Conv2d
    torch.testing.assert_close(swap_operations(net, Counting)(x), expected)
    assert type(net[0]) is Counting.Conv2d and net[1].eps == 1e-3
