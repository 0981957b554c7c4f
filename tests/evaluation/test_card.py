"""The card, written from made-up files whose every number is known."""

import json
import re
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from any2pix.evaluation.card import main, write_card
from any2pix.evaluation.edit_quality import IN_WORDS, TABLE
from any2pix.evaluation.findings import gather, main_quality, rates_of
from any2pix.evaluation.judge import ATTRIBUTES
from any2pix.evaluation.rates import Rate
from any2pix.evaluation.sweeps import Sweep
from any2pix.evaluation.tradeoff import STRENGTHS, SWEPT
from any2pix.evaluation.tradeoff_curves import KEPT, Curve, compare
from any2pix.loading.files import write_network_file
from any2pix.stages.any2pix.options import EditOptions
from any2pix.stages.pix2pix.pipeline import SDEditOptions, TextEditOptions

FIGURES = {name: Rate(0.995, 0.0021, 137) for _, name, _, _ in TABLE} | {
    "done/add": Rate(0.613, 0.0287, 288),
    "done/style": Rate(0.931, 0.0146, 300),
    "done": Rate(0.842, 0.01, 1344),
    "kept": Rate(0.962, 0.0040, 1344),
    "audio worse than text": Rate(0.082, 0.021, 192),
    "image worse than text": Rate(-0.011, 0.02, 192),
}
EXTRA = {"vae psnr": Rate(26.4, 0.12, 200)} | {
    f"{title}/{name}": Rate(0.987, 0.008, 200) for title in ("judge", "judge after the vae") for name in ATTRIBUTES
}
TRAINING = {
    "llm": {
        "results": {"caption": 0.9876, "caption/add": 0.9555, "by modality": {"audio": 0.9123}},
        "minutes": 33.4,
        "config": {"data": {"seed": 31}, "loop": {"seed": 31}, "one": {"steps": 300}, "two": {"steps": 3600}},
    },
    "judge": {"results": {"all": 0.991}, "minutes": 8.0, "config": {"loop": {"steps": 3500, "seed": 7}}},
}  # fmt: skip


def rates(group: dict[str, Rate]) -> dict:
    return {name: rate.to_dict() for name, rate in group.items()}


def quality(seed=5, samples=48, **changes) -> dict:
    record = {"seed": seed, "samples": samples, "split": "test", "oracle": False}
    record["options"] = vars(EditOptions(cfg=2.25))
    copied = {"done/add": Rate(0.03, 0.01, 288), "kept": Rate(0.991, 0.001, 288)}
    groups = {"figures": FIGURES, "copying the source": copied, "perfect painter through the vae": copied}
    return record | {title: rates(group) for title, group in groups.items()} | {"judge and vae": rates(EXTRA)} | changes


def tradeoff() -> dict:
    """Two points of two methods, InstructPix2Pix 0.1 above SDEdit."""
    record = {"seed": 2, "samples": 7, "split": "test", "edits": 35}
    record["options"] = {"InstructPix2Pix": asdict(replace(SWEPT, steps=9)), "SDEdit": vars(SDEditOptions())}
    record["options"]["InstructAny2Pix"] = vars(EditOptions())
    spread = np.array([[0.01, -0.01], [0.01, -0.01]])
    curves = [
        Curve(method, knob, values, np.array([[0.2, 0.2], [0.6, 0.6]]), 0.5 + above + spread, 0.3 + spread,
        0.4 + spread)
        for method, knob, values, above in (("InstructPix2Pix", "s_I", (2.0, 1.0), 0.1), ("SDEdit", "strength",
        STRENGTHS[:2], 0))
    ]  # fmt: skip
    level = {what: Rate(0.91, 0.01, 35).to_dict() for what in ("direction", *KEPT)}
    record |= {"tradeoff": [curve.to_dict() for curve in curves], "levels": {"wanted": level}}
    others = {what: Rate(mean, 0.01, 35).to_dict() for what, mean in (("patches", 0.55), ("structure", 0.17))}
    record["another drawing of the source"] = {**level, **others}
    return record | {"at equal direction": [compare(*curves, what).to_dict() for what in KEPT]}


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
    (results / "quality.json").write_text(json.dumps(quality()))
    few = {"done": Rate(0.777, 0.05, 40), "kept": Rate(0.888, 0.05, 40)}
    oracle = quality(samples=90, oracle=True, figures=rates(few))
    (results / "oracle.json").write_text(json.dumps(oracle))
    alpha = Sweep("alpha", "alpha", (0.0, 0.5), {"others kept": [Rate(0.31, 0.02, 40), Rate(0.72, 0.03, 40)]}, {})
    levels = {"VAE": Rate(30.77, 0.2, 16)}
    psnr = Sweep("prior", "iterations", (1,), {"25 steps": [Rate(24.1, 0.1, 16)]}, levels, "dB")
    sweeps = {"seed": 8, "samples": 9, "split": "test", "alpha": alpha.to_dict(), "prior": psnr.to_dict()}
    (results / "sweeps.json").write_text(json.dumps(sweeps))
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
    (results / "tradeoff.json").write_text(json.dumps(tradeoff()))
    ablation = {
        "columns": ["pairs", "done"],
        "rows": [["10 %", "55.5 %"], ["100 %", "77.1 %"]],
        "command": "python -m x",
    }
    ablation["figures"] = {"10 %": {"done": Rate(0.555, 0.05, 40).to_dict()}}  # what lies behind it
    (results / "data_ablation.json").write_text(json.dumps(ablation))
    for name in ("alpha.png", "edits.jpg", "edits_pix2pix.jpg", "back.png", "tradeoff.png"):
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
    assert card.count("Not measured yet") == 3
    for command in ("any2pix.evaluation.edit_quality", "any2pix.evaluation.sweeps", "any2pix.training.miniature"):
        assert f"python -m {command}" in card


def test_the_table_has_every_figure_with_its_error_and_count(measured):
    card = write_card(gather(measured))
    row = row_of(card, "edit done: add")
    assert [cell.strip() for cell in row.split("|")[1:-1]] == [
        "edit done: add", "75 %", "90 %", "61.3 ± 2.9 % (n 288)", "3.0 %", "3.0 %",
    ]  # fmt: skip
    assert "26.4 ± 0.1 dB (n 200)" in row_of(card, "VAE round trip on held-out pictures")
    assert "8.2 ± 2.1 (n 192)" in card
    assert "98.7 ± 0.8 % (n 200)" in row_of(card, "subject")


def test_shortfalls_are_told_plainly(measured):
    card = write_card(gather(measured))
    below = next(line for line in card.splitlines() if line.startswith("- Below what is wanted"))
    assert "edit done: add by 13.7" in below and "given as a sound instead of text: points worse by 1.2" in below
    assert "style" not in below and "as a picture" not in below
    near = next(line for line in card.splitlines() if line.startswith("- Above it"))
    assert "edit done: style by 3.9" in near and "VAE round trip, dB by 1.6" in near


def test_the_main_run_is_the_one_with_the_llm(measured):
    findings = gather(measured)
    assert main_quality(findings) == "quality.json"
    row = row_of(write_card(findings), "`oracle.json`")
    assert "in place of the LLM's" in row and "77.7 ± 5.0 % (n 40)" in row


def test_commands_repeat_the_run(measured):
    card = write_card(gather(measured))
    command = "python -m any2pix.evaluation.edit_quality --seed 5 --samples 48 --options cfg=2.25"
    assert f"{command} --json miniature/results/quality.json\n" in card


def test_training_sweeps_latency_pictures_and_notes(measured):
    card = write_card(gather(measured))
    row = row_of(card, "`train_llm`")
    assert "| 33 | 300, 3,600 | 31 | caption 0.9876; by modality, audio 0.9123 |" in row
    assert "41 minutes, added up" in card
    assert "| 0.5 | 0.72 ± 0.03 |" in card and "VAE: 30.77 ± 0.20" in card
    assert "| total | 3.75 | 1.20 | 1.90 | 0.10 | +3.1 % |" in card
    pictures = re.findall(r"!\[([^]]*)]\(([^)]+)\)", card)
    assert pictures == [
        ("32 edits", "results/edits.jpg"), ("32 edits of InstructPix2Pix", "results/edits_pix2pix.jpg"),
        ("alpha", "results/alpha.png"), ("trade-off", "results/tradeoff.png"), ("inversion", "results/back.png"),
    ]  # fmt: skip
    assert "| karras | 20 | 5 | 24.50 dB (-0.25), error 3.1%, 1.75 calls |" in card
    assert "any2pix.evaluation.inversion --seed 3 --samples 4 --json miniature/results/back.json" in card
    assert "seed 8, 9 edits of each kind" in card
    assert card.rstrip().endswith("A longer training.")


def test_instructpix2pix_has_its_columns_only_where_it_was_measured(measured):
    card = write_card(gather(measured))
    assert "InstructPix2Pix" not in row_of(card, "what")
    own = {IN_WORDS[0]: {"done/add": Rate(0.9, 0.01, 48)}, IN_WORDS[1]: {"done/add": Rate(0.715, 0.01, 48)}}
    record = quality(**{title: rates(group) for title, group in own.items()})
    record["text options"] = vars(TextEditOptions(text_guidance=4.5))
    (measured / "results" / "quality.json").write_text(json.dumps(record))
    card = write_card(gather(measured))
    head, row = ([cell.strip() for cell in row_of(card, start).split("|")] for start in ("what", "edit done: add"))
    assert row[head.index("InstructPix2Pix")] == "71.5 ± 1.0 % (n 48)"
    assert row[head.index("InstructAny2Pix on the same edits")] == "90.0 ± 1.0 % (n 48)"
    assert "--options cfg=2.25 --text-options text_guidance=4.5 --json" in card
    assert "Options of InstructPix2Pix: text_guidance 4.5" in card


def test_the_tradeoff_is_told_with_its_command(measured):
    card = write_card(gather(measured))
    command = (
        "python -m any2pix.evaluation.tradeoff --seed 2 --samples 7 --text-options steps=9 --image-guidances 2.0 1.0"
    )
    assert (
        f"{command} --strengths 0.3 0.4 --json miniature/results/tradeoff.json --plot miniature/results/tradeoff.png\n"
        in card
    )
    assert "| image | mean |  |  | +0.100 ± " in card and "| structure | mean |  |  | +0.000 ± " in card
    assert "| InstructPix2Pix | s_I 2 | 0.200 ± " in card
    assert "image similarity of 0.91 to it, but a\npatch similarity of 0.55 and a structural similarity of 0.17" in card


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
    assert rates_of(rates(EXTRA)) == EXTRA
    assert rates_of({})["never measured"].count == 0


def test_an_empty_folder_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match="any2pix.training.miniature"):
        gather(tmp_path)


def test_the_command_writes_the_card(measured):
    main(["--miniature", str(measured)])
    assert (measured / "README.md").read_text() == write_card(gather(measured))
