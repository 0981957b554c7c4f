"""LLaMA's tokenizer.model: read without transformers; its ids are compared with the authors' in tests/golden."""

import re
import sys

import pytest
from any2pix.loading.files import CheckpointError
from any2pix.loading.llama_tokenizer import SPACE, read_sentencepiece
from any2pix.loading.llm import _convert_sentencepiece, _read_tokenizer, load_llm
from any2pix.miniature import manifest


@pytest.fixture(scope="module")
def folder(root):
    return root / "tests" / "golden" / "tokenizer"


def test_reserved_tokens_and_pieces(folder):
    sentencepiece = pytest.importorskip("sentencepiece")
    tokenizer = read_sentencepiece(folder / "tokenizer.model")
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    assert [tokenizer.id_to_token(index) for index in range(3)] == ["<unk>", "<s>", "</s>"]
    assert tokenizer.get_vocab_size() == model.get_piece_size()
    for text in ("make it rain", "the black dog, please!", "a  cat", "zebra 12 ü 雪"):
        assert tokenizer.encode(text, add_special_tokens=False).ids == model.encode(text)
        assert tokenizer.decode(model.encode(text)) == text


def test_a_stretch_that_starts_with_a_space_gets_one_more(folder):
    tokenizer = read_sentencepiece(folder / "tokenizer.model")
    assert tokenizer.encode(" cat", add_special_tokens=False).tokens[0] == SPACE


def test_without_sentencepiece_one_error_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(CheckpointError, match="tokenizer.model.*package sentencepiece, which is not there") as told:
        _read_tokenizer(folder.parent)
    assert re.search(r"Python that runs ComfyUI: \S.* -m pip install sentencepiece$", str(told.value))


def test_a_converted_llm_needs_no_sentencepiece(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    assert load_llm(manifest.FOLDER / manifest.LLM).tokenizer.encode("a cat").ids


def test_a_damaged_file_is_one_clear_error(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"not a model")
    with pytest.raises(CheckpointError, match="tokenizer.model.*cannot be read"):
        _convert_sentencepiece(tmp_path)
