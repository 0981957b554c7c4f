"""Captions -> instruction and edited caption: strict reading, counted drops, shards that go on after a stop."""

import json

import pytest
import torch
from any2pix.datagen.pairs.captions import main, parse_answer, toyland_captions, write_captions
from any2pix.datagen.pairs.shards import ShardFolder
from any2pix.datagen.pairs.writers import CausalWriter, few_shot_prompt, fine_tuned_prompt, toyland_writer
from any2pix.datagen.toyland import HELD_OUT, parse_caption
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

GOOD = "make it night\n%%\na cat at night\nEND"


def test_an_answer_in_the_right_form_is_read():
    record, reason = parse_answer("a cat", GOOD + " and more")
    assert record == {"source": "a cat", "instruction": "make it night", "edited": "a cat at night"} and not reason


@pytest.mark.parametrize(
    "answer, reason",
    [
        ("", "no end mark"),
        ("make it night\n%%\na cat at night", "no end mark"),
        ("make it night\nEND", "not two parts"),
        ("a\n%%\nb\n%%\nc\nEND", "not two parts"),
        ("\n%%\na cat at night\nEND", "empty part"),
        ("make it night\n%%\n . \nEND", "empty part"),
        ("make it\nnight\n%%\na cat at night\nEND", "more than one line"),
        ("make it night\n%%\n" + "cat " * 100 + "\nEND", "too long"),
        ("leave it\n%%\nA  Cat.\nEND", "no-op"),
    ],
)
def test_rubbish_is_dropped_with_its_reason(answer, reason):
    assert parse_answer("a cat", answer) == (None, reason)


def test_toyland_writes_edits_that_its_captions_show():
    captions = toyland_captions(60, 3)
    for text, answer in zip(captions, toyland_writer(captions, 1), strict=True):
        record, reason = parse_answer(text, answer)
        assert not reason
        before, after = parse_caption(record["source"]), parse_caption(record["edited"])
        assert sum(before[name] != after[name] for name in before) == 1
        assert "[" not in record["instruction"] and tuple(after.values()) not in HELD_OUT
    assert toyland_writer(["a photograph of a horse"], 0) == [""]


def counted(folder, stop_at=None):
    calls = []

    def writer(captions, seed):
        calls.append(seed)
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        return toyland_writer(captions, seed)

    shards = ShardFolder(folder, "captions", ".jsonl")
    totals = write_captions(shards, [*toyland_captions(40, 3), "rubbish"], writer, 10, 4, 5)
    return totals, len(calls)


def test_a_stopped_run_goes_on_to_the_same_shards(tmp_path):
    whole, calls = counted(tmp_path / "whole")
    assert sum(whole.values()) == 41 and whole["no end mark"] == 1
    with pytest.raises(KeyboardInterrupt):
        counted(tmp_path / "stopped", stop_at=5)
    assert ShardFolder(tmp_path / "stopped", "captions", ".jsonl").finished() == [0]
    resumed, more = counted(tmp_path / "stopped")
    assert resumed == whole and more == calls - 3
    for path in (tmp_path / "whole").glob("captions-*"):
        assert path.read_bytes() == (tmp_path / "stopped" / path.name).read_bytes()


def test_duplicates_are_dropped_across_shards(tmp_path):
    def writer(captions, seed):
        return ["make it NIGHT\n%%\nA cat at night.\nEND"] * len(captions)

    shards = ShardFolder(tmp_path, "captions", ".jsonl")
    totals = write_captions(shards, ["a cat", "a cat", "a cat"], writer, 2, 1, 0)
    assert totals == {"kept": 1, "duplicate": 2}


def test_duplicates_of_shards_that_an_earlier_run_wrote_are_dropped(tmp_path):
    """Shards 0 and 2 lie there; 1 is made between them, 3 after them."""
    shards, texts = ShardFolder(tmp_path, "captions", ".jsonl"), ["a cat", "a dog", "a fox", "a fox", "a cat", "a dog"]

    def writer(captions, seed):
        return [f"make it night\n%%\n{text} at night\nEND" for text in captions]

    whole = write_captions(shards, texts, writer, 1, 1, 0)
    assert whole == {"kept": 3, "duplicate": 3}
    for index in (1, 3, 4, 5):
        shards.counts_path(index).unlink()
    assert write_captions(shards, texts, writer, 1, 1, 0) == whole
    assert [shards.counts(index)["kept"] for index in range(6)] == [1, 1, 1, 0, 0, 0]


def test_the_command_runs_counts_and_refuses_other_settings(tmp_path):
    arguments = ["--toyland", "30", "--out", str(tmp_path), "--shard-size", "20"]
    totals = main(arguments)
    assert sum(totals.values()) == 30 and totals["kept"] > 20
    assert main(arguments) == totals
    records = [json.loads(line) for path in tmp_path.glob("*.jsonl") for line in path.read_text().splitlines()]
    assert len(records) == totals["kept"]
    with pytest.raises(ValueError, match="seed 0 -> 1"):
        main([*arguments, "--seed", "1"])


def test_captions_of_a_file(tmp_path, capsys):
    lines = tmp_path / "captions.txt"
    lines.write_text("a cat in the meadow in the sun, flat style\n\na photograph of a horse\n")
    arguments = ["--captions", str(lines), "--out", str(tmp_path / "out")]
    assert main(arguments) == {"kept": 1, "no end mark": 1}
    lines.write_text("other captions\n")
    with pytest.raises(ValueError, match="begun with other settings .captions"):
        main(arguments)
    lines.write_text("\n")
    with pytest.raises(ValueError, match="holds no captions"):
        main(arguments)
    with pytest.raises(SystemExit):
        main([*arguments, "--shard-size", "0"])
    assert "whole number of at least 1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*arguments, "--shard-size", "100001"])
    assert "at most 100000 captions" in capsys.readouterr().err


def test_pairs_that_are_written_go_through_the_same_checks(tmp_path, capsys):
    """Ours, the authors' two kinds, and what is none."""
    lines = [
        {"source": "a cat", "instruction": "make it night", "edited": "a cat at night", "weights": {"night": 2}},
        {"caption": "a dog\u2028", "edit": "make it night", "output": "a dog at night", "url": "x"},
        {"input": "a fox", "edit": "leave it", "output": "A fox."},
        {"source": "A CAT", "instruction": "at night", "edited": "a cat at night."},
        {"source": "a cat", "edited": "a cat at night"},
        {"source": "", "instruction": "add a cat", "edited": "a cat"},
        {"source": "a cat", "instruction": ["snow"], "edited": "a cat in snow"},
        {"source": "a cat", "instruction": "make it rain", "edited": "a cat in the rain", "weights": "rain"},
        *(
            {"source": "a cat", "instruction": "snow", "edited": "a cat in snow", "weights": {"snow": factor}}
            for factor in (float("nan"), float("inf"), 10**400)
        ),
        ["a cat", "make it night", "a cat at night"],
    ]
    path, arguments = (
        tmp_path / "written.jsonl",
        ["--pairs", str(tmp_path / "written.jsonl"), "--out", str(tmp_path / "out")],
    )
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\nno JSON\n", encoding="utf-8")
    assert main(arguments) == {"kept": 2, "no-op": 1, "duplicate": 1, "empty part": 1, "no such object": 8}
    assert list(ShardFolder(tmp_path / "out", "captions", ".jsonl").read(0)) == [
        {"source": "a cat", "instruction": "make it night", "edited": "a cat at night", "weights": {"night": 2.0}},
        {"source": "a dog", "instruction": "make it night", "edited": "a dog at night"},
    ]
    with pytest.raises(SystemExit):
        main([*arguments, "--writer", "some folder"])
    assert "leave out --writer" in capsys.readouterr().err


def test_a_mistyped_writer_settles_nothing(tmp_path):
    arguments = ["--toyland", "3", "--out", str(tmp_path / "out")]
    with pytest.raises(OSError):
        main([*arguments, "--writer", str(tmp_path / "nothing")])
    assert main(arguments)["kept"] == 3


@pytest.fixture(scope="module")
def tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(["</s>", *alphabet])}
    inner = Tokenizer(models.BPE(vocabulary, []))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>")


@pytest.mark.parametrize("form", ["few-shot", "fine-tuned"])
def test_any_causal_model_answers_and_rubbish_is_counted(tokenizer, tmp_path, form):
    """A random LLaMA, saved and read as any other: the same answers for a seed, and nothing of them gets through."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    writer = CausalWriter.load(tmp_path / "lm", form, max_new_tokens=6)
    answers = writer(["a cat", "a much longer caption"], 1)
    assert answers == writer(["a cat", "a much longer caption"], 1) != writer(["a cat", "a much longer caption"], 2)
    totals = write_captions(ShardFolder(tmp_path / "out", "captions", ".jsonl"), ["a cat"] * 3, writer, 3, 3, 0)
    assert totals == {"no end mark": 3}


def test_prompts_end_where_the_answer_begins():
    assert fine_tuned_prompt("a cat") == "a cat\n##\n"
    prompt = few_shot_prompt("a cat")
    assert prompt.endswith("\n\na cat\n##\n")
    shot = prompt.split("\n\n")[1]
    text, answer = shot.split("\n##\n")
    assert parse_answer(text, answer)[0]["edited"] == "a girl riding a dragon"
