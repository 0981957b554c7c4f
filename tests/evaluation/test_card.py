"""The card, written from made-up files whose every number is known."""

import json
import re

import pytest
import torch
from any2pix.evaluation.card import main, write_card
from any2pix.evaluation.card_figures import RUNS
from any2pix.evaluation.findings import gather, rates_of
from any2pix.evaluation.rates import Rate
from any2pix.evaluation.results import Row, write_rows
from any2pix.loading.files import write_network_file

SAME = {"data": "toyland", "split": "final", "embedder": "imagebind", "seed": 1, "weights": "w3ights", "code": "c0de"}
TRAINING = {
    "llm": {
        "results": {"caption": 0.9876, "caption/add": 0.9555, "by modality": {"audio": 0.9123}},
        "minutes": 33.4,
        "config": {"data": {"seed": 31}, "loop": {"seed": 31}, "one": {"steps": 300}, "two": {"steps": 3600}},
    },
    "judge": {"results": {"all": 0.991}, "minutes": 8.0, "config": {"loop": {"steps": 3500, "seed": 7}}},
}  # fmt: skip


def rows_of(method, values, setting="", split="final"):
    """Two scenes of each kind, whose figures are 0.01 above and below those given."""
    return [
        Row(
            **{**SAME, "split": split}, case=f"{kind}/{number}/text", scene=f"{kind}/{number}", kind=kind,
            given_as="text", method=method, setting=setting, metric=metric, value=value + 0.01 * (2 * number - 1),
            unit="", options="0",
        )
        for metric, value in values.items()
        for kind in ("add", "style")
        for number in range(2)
    ]  # fmt: skip


def curve(method, option, values, kept):
    return [
        row
        for value, image in zip(values, kept, strict=True)
        for row in rows_of(method, {"direction": value, "image_similarity": image}, f"{option}={value}")
    ]


@pytest.fixture
def weights(tmp_path):
    """A folder with two weight files in it and nothing else."""
    tensors = {"a": torch.zeros(1234, 3), "b": torch.zeros(2)}
    write_network_file(tmp_path / "llm.safetensors", "llm", tensors, {"embed": 17}, "{}", dtype=torch.float16)
    write_network_file(tmp_path / "judge.safetensors", "judge", {"a": torch.zeros(5)}, {})
    return tmp_path


@pytest.fixture
def measured(weights):
    """The same with everything measured."""
    results = weights / "results"
    results.mkdir()
    (weights / "training.json").write_text(json.dumps(TRAINING))
    shared = {"psnr": 20.25, "done": 0.75, "psnr_outside": 24.5}
    methods = rows_of("InstructAny2Pix", shared) + rows_of("perfect painter", {"psnr": 31.5})
    write_rows(results / "methods.parquet", methods)
    pix2pix, sdedit = (
        curve("InstructPix2Pix", "s", (0.2, 0.6), (0.9, 0.5)),
        curve("SDEdit", "t", (0.2, 0.6), (0.8, 0.4)),
    )
    write_rows(results / "tradeoff.parquet", [*pix2pix, *sdedit])
    alpha = rows_of("InstructAny2Pix", {"structure": 0.31}, "alpha=0", "validation")
    write_rows(
        results / "alpha.parquet", alpha + rows_of("InstructAny2Pix", {"structure": 0.72}, "alpha=0.5", "validation")
    )
    stages = {"instruct": 0.5, "invert": 2.0, "sample": 1.25}
    latency = {"first edit": stages, "second edit": {"sample": 1.2}}
    latency |= {"bare UNet": {"invert": 1.9}, "bare VAE": {"invert": 0.1}}
    latency["own time over bare calls"] = {"total": 0.0312}
    (results / "latency.json").write_text(json.dumps(latency | {"UNet calls": {"invert": 75}}))
    rate = Rate(24.5, 0.5, 4).to_dict()
    inversion = {"scheduler": "karras", "steps": 20, "cfg": 5.0, "way": "fixed point", "calls a step": 1.75}
    inversion |= {"psnr": rate, "loss": Rate(0.25, 0.01, 4).to_dict(), "error": Rate(0.031, 0.001, 4).to_dict()}
    record = {"seed": 3, "samples": 4, "split": "test", "iterations": 10, "tolerance": 0.003, "vae psnr": rate}
    (results / "back.json").write_text(json.dumps(record | {"inversions": [inversion]}))
    ablation = {
        "columns": ["pairs", "done"],
        "rows": [["10 %", "55.5 %"], ["100 %", "77.1 %"]],
        "command": "python -m x",
    }
    ablation["figures"] = {"10 %": {"done": Rate(0.555, 0.05, 40).to_dict()}}  # what lies behind it
    (results / "data_ablation.json").write_text(json.dumps(ablation))
    for name in ("alpha.png", "edits.jpg", "back.png", "tradeoff.png"):
        (results / name).write_bytes(b"")
    (results / "notes.md").write_text("## What was tried\n\nA longer training.\n")
    return weights


def row_of(card: str, start: str) -> str:
    """The table row that begins with these words."""
    return next(line for line in card.splitlines() if line.startswith(f"| {start} |"))


def test_weight_files_speak_for_themselves(weights):
    card = write_card(gather(weights))
    row = row_of(card, "`llm.safetensors`")
    assert "| 3,704 |" in row and "| F16 |" in row and row.endswith("| yes |")
    assert '{"embed": 17}' in card


def test_the_judge_is_not_counted_as_part_of_the_miniature(tmp_path):
    write_network_file(tmp_path / "vae.safetensors", "vae", {"a": torch.zeros(2_000_000)}, {})
    write_network_file(tmp_path / "judge.safetensors", "judge", {"a": torch.zeros(3_000_000)}, {})
    assert "2.0 million parameters, 20.0 MB" in write_card(gather(tmp_path))


def test_what_is_missing_is_said_with_its_command(weights):
    card = write_card(gather(weights))
    assert card.count("Not measured yet") == 2
    for command in ("any2pix.evaluation.card_figures", "any2pix.training.miniature"):
        assert f"python -m {command}" in card


def test_the_tables_are_those_of_the_rows(measured):
    """Means with their intervals, of all methods, and of the main one by kind."""
    card = write_card(gather(measured))
    row = row_of(card, "psnr")
    assert "20.2 [20.2, 20.3] dB (n 4, 4 scenes)" in row and "31.5 [31.5, 31.5] dB (n 4, 4 scenes)" in row
    assert "75.0 [74.0, 76.0] % (n 4, 4 scenes)" in row_of(card, "done")
    assert any(line.startswith("| psnr_outside | style | 24.5 ") for line in card.splitlines())
    assert "weights w3ights" in card and "code c0de" in card
    assert "4 edits of 4 scenes" in card and "which nothing but this report has drawn" in card


def test_commands_repeat_the_runs(measured):
    card = write_card(gather(measured))
    to = "--out miniature/results"
    assert f"python -m any2pix.evaluation.run --split final --final-report --samples 2 {to}/methods.parquet\n" in card
    knob = " ".join(RUNS["alpha"].arguments)
    assert f"python -m any2pix.evaluation.run --split validation --samples 2 {knob} {to}/alpha.parquet\n" in card


def test_the_tradeoff_is_read_at_equal_direction(measured):
    card = write_card(gather(measured))
    line = next(line for line in card.splitlines() if line.startswith("| InstructPix2Pix | SDEdit |"))
    assert "| image_similarity | mean | 0.700 | 0.600 | +0.100 [" in line


def test_training_options_latency_pictures_and_notes(measured):
    card = write_card(gather(measured))
    row = row_of(card, "`train_llm`")
    assert "| 33 | 300, 3,600 | 31 | caption 0.9876; by modality, audio 0.9123 |" in row
    assert "41 minutes, added up" in card
    assert "0.310 [" in row_of(card, "structure") and "0.720 [" in row_of(card, "structure")
    assert "| total | 3.75 | 1.20 | 1.90 | 0.10 | +3.1 % |" in card
    pictures = re.findall(r"!\[([^]]*)]\(([^)]+)\)", card)
    assert pictures == [
        ("edits", "results/edits.jpg"), ("tradeoff", "results/tradeoff.png"), ("alpha", "results/alpha.png"),
        ("inversion", "results/back.png"),
    ]  # fmt: skip
    assert "| karras | 20 | 5 | 24.50 dB (-0.25), error 3.1%, 1.75 calls |" in card
    assert "any2pix.evaluation.inversion --seed 3 --samples 4 --json miniature/results/back.json" in card
    assert card.rstrip().endswith("A longer training.")


def test_the_worth_of_the_data_is_a_ready_table(measured):
    assert "```\npython -m x\n```\n\n| pairs | done |\n|---|---|\n| 10 % | 55.5 % |" in write_card(gather(measured))


def test_scales_of_8_bit_weights_are_no_parameters(tmp_path):
    write_network_file(tmp_path / "pix2pix.safetensors", "pix2pix", {"a": torch.ones(256, 256)}, {}, in_8_bits=True)
    row = row_of(write_card(gather(tmp_path)), "`pix2pix.safetensors`")
    assert "| 65,536 | I8 |" in row and "InstructPix2Pix" in row


def test_every_picture_of_the_card_is_there(measured):
    card = write_card(gather(measured))
    for link in re.findall(r"!\[[^]]*]\(([^)]+)\)", card):
        assert (measured / link).is_file()


def test_rates_survive_json():
    found = {"vae psnr": Rate(26.4, 0.12, 200), "done": Rate(0.5, 0.1, 8)}
    assert rates_of({name: rate.to_dict() for name, rate in found.items()}) == found
    assert rates_of({})["never measured"].count == 0


def test_an_empty_folder_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match="any2pix.training.miniature"):
        gather(tmp_path)


def test_the_command_writes_the_card(measured):
    main(["--miniature", str(measured)])
    assert (measured / "README.md").read_text() == write_card(gather(measured))
