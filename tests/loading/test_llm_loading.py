import json

import pytest
import torch
from any2pix.loading.files import CheckpointError, write_network_file
from any2pix.loading.llm import load_llm
from any2pix.models.mm_llm import ADDED_TOKENS
from tokenizers import AddedToken


def write(path, llm, tokenizer, **changes):
    parts = {
        "state_dict": llm.state_dict(),
        "dims": llm.dims.to_dict(),
        "tokenizer_json": tokenizer.to_str(),
        **changes,
    }
    write_network_file(path, "llm", **parts)
    return path


def same(left, right):
    torch.testing.assert_close(left.state_dict(), right.state_dict())
    ids = torch.arange(10)[None]
    with torch.no_grad():
        torch.testing.assert_close(left(ids).logits, right(ids).logits)


def test_one_file(tmp_path, llm, tokenizer):
    loaded = load_llm(write(tmp_path / "llm.safetensors", llm, tokenizer))
    assert loaded.dims == llm.dims and not loaded.training
    assert loaded.tokenizer.to_str() == tokenizer.to_str()
    same(loaded, llm)
    half = load_llm(tmp_path / "llm.safetensors", dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("shards, kind", [(1, "bin"), (3, "bin"), (1, "safetensors"), (2, "safetensors")])
def test_published_folder(tmp_path, publish, llm, tokenizer, shards, kind):
    loaded = load_llm(publish(tmp_path / "llm-retrained", llm, tokenizer, shards, kind))
    assert loaded.dims.embed == 8 and loaded.dims.projector_hidden == 16 and loaded.dims.merge == "add"
    same(loaded, llm)


def test_missing_shard(tmp_path, publish, llm, tokenizer):
    folder = publish(tmp_path / "llm-retrained", llm, tokenizer)
    (folder / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(CheckpointError, match="pytorch_model-00002-of-00002.bin .*is not there"):
        load_llm(folder)


@pytest.mark.parametrize(
    "name, message",
    [
        ("config.json", "config.json .*is not there"),
        ("pytorch_model.bin", "none of"),
        ("tokenizer/tokenizer.json", "has neither"),
    ],
)
def test_incomplete_folder(tmp_path, publish, llm, tokenizer, name, message):
    folder = publish(tmp_path / "llm-retrained", llm, tokenizer, shards=1)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=message):
        load_llm(folder)


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="llm.safetensors .*is not there"):
        load_llm(tmp_path / "llm.safetensors")


def test_file_without_tokenizer(tmp_path, llm, tokenizer):
    with pytest.raises(CheckpointError, match="no sizes or no tokenizer"):
        load_llm(write(tmp_path / "llm.safetensors", llm, tokenizer, tokenizer_json=None))


def test_missing_and_unexpected_keys(tmp_path, llm, tokenizer):
    state = {key: value for key, value in llm.state_dict().items() if key != "model.norm.weight"}
    with pytest.raises(CheckpointError, match="missing: model.norm.weight"):
        load_llm(write(tmp_path / "llm.safetensors", llm, tokenizer, state_dict=state))
    state = {**llm.state_dict(), "model.extra": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="not expected: model.extra"):
        load_llm(write(tmp_path / "llm.safetensors", llm, tokenizer, state_dict=state))


def test_plain_language_model(tmp_path, publish, llm, tokenizer):
    state = {key: value for key, value in llm.state_dict().items() if "vae_" not in key}
    folder = publish(tmp_path / "vicuna", llm, tokenizer, shards=1)
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="without InstructAny2Pix's projectors"):
        load_llm(folder)


def test_larger_tokenizer_than_embedding(tmp_path, llm, tokenizer):
    larger = type(tokenizer).from_str(tokenizer.to_str())
    larger.add_tokens([AddedToken("extra")])
    size = tokenizer.get_vocab_size()
    with pytest.raises(
        CheckpointError, match=f"has {size} rows in model.embed_tokens.weight, its tokenizer {size + 1} tokens"
    ):
        load_llm(write(tmp_path / "llm.safetensors", llm, larger))


def test_tokenizer_without_the_added_tokens(tmp_path, llm, tokenizer):
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] not in ADDED_TOKENS]
    with pytest.raises(CheckpointError, match="lacks <im_gen_start>"):
        load_llm(write(tmp_path / "llm.safetensors", llm, tokenizer, tokenizer_json=json.dumps(data)))


def test_added_tokens_in_another_order(tmp_path, llm, tokenizer):
    text = (
        tokenizer.to_str()
        .replace('"<base>"', '"<swap>"')
        .replace('"<video>"', '"<base>"')
        .replace('"<swap>"', '"<video>"')
    )
    with pytest.raises(CheckpointError, match="another order"):
        load_llm(write(tmp_path / "llm.safetensors", llm, tokenizer, tokenizer_json=text))
