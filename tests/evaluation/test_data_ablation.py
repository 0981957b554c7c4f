"""The data ablation: which pairs are drawn, what is trained on, what is not done twice, and the table."""

import json
from collections import Counter

import pytest
from any2pix.datagen.pairs.shards import ShardFolder
from any2pix.evaluation import data_ablation
from any2pix.evaluation.data_ablation import (
    Sizes,
    command_of,
    draw_set,
    draw_sets,
    measure_set,
    table_row,
    training_config,
)
from any2pix.evaluation.rates import Rate
from any2pix.miniature import manifest
from any2pix.training.recipe_files import load_recipe
from PIL import Image

RATES = {name: Rate(0.5, 0.1, 20) for name in ("done", "kept", "direction", "image_similarity")}


def stage(folder, name, counts):
    """Shards of so many pairs, each with its number as the instruction."""
    shards, numbers = ShardFolder(folder, name, ".tar"), iter(range(sum(counts)))

    def make(index, _):
        for number in (next(numbers) for _ in range(counts[index])):
            picture = Image.new("RGB", (8, 8), (number, 0, 0))
            yield {
                "__key__": f"{number:04d}",
                "source.png": picture,
                "edited.png": picture,
                "json": {"instruction": str(number)},
            }

    shards.begin({"name": name})
    shards.run(range(len(counts)), make)
    return shards


def numbers(shards):
    return [int(sample["json"]["instruction"]) for index in shards.finished() for sample in shards.read(index)]


def test_smaller_sets_lie_within_larger_ones(tmp_path):
    source = stage(tmp_path / "filter", "filter", (7, 0, 13))
    few, many, others = (
        draw_set(source, tmp_path / name, count, seed) for name, count, seed in (("a", 5, 1), ("b", 12, 1), ("c", 5, 2))
    )
    assert (
        len(numbers(few)) == 5 and len(numbers(many)) == 12 and set(numbers(few)) < set(numbers(many)) != set(range(20))
    )
    assert numbers(few) != numbers(others)
    assert sum((few.counts(index) for index in few.finished()), Counter()) == {"kept": 5, "not drawn": 15}


def test_the_sets_of_the_table(tmp_path):
    stage(tmp_path / "filter", "filter", (12, 8))
    stage(tmp_path / "pictures", "pictures", (30, 30))
    sets = draw_sets(tmp_path, 1)
    assert {name: count for name, (_, count) in sets.items()} == {
        "10% of the filtered": 2, "50% of the filtered": 10, "100% of the filtered": 20, "unfiltered, as many": 20
    }  # fmt: skip
    assert [len(numbers(shards)) for shards, _ in sets.values()] == [2, 10, 20, 20]
    assert max(numbers(sets["unfiltered, as many"][0])) > 20


def test_training_is_the_miniatures_but_shorter_and_on_the_shards(tmp_path):
    config, own = training_config(tmp_path / "set", tmp_path, Sizes(train_steps=7)), load_recipe("instructpix2pix")
    assert config["data"]["shards"] == str(tmp_path / "set") and config["loop"]["steps"] == 7
    assert config["start"]["unet"] == str(tmp_path / manifest.TEXT_UNET)
    assert all(config[name] == own[name] for name in own if name not in ("start", "data", "loop"))


def test_what_is_measured_is_not_measured_again(tmp_path, monkeypatch):
    for name in ("judge", "imagebind"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"weights")
    judged = []

    def train(config, run, out):
        for name in data_ablation.PIX2PIX:
            (out / name).write_bytes(str(config["loop"]["steps"]).encode())

    monkeypatch.setattr(data_ablation, "train", train)
    monkeypatch.setattr(data_ablation, "measure_edits", lambda *given: judged.append(given) or RATES)
    for steps, times in ((3, 1), (3, 1), (4, 2)):
        found = measure_set(tmp_path / "run", tmp_path / "set", tmp_path, Sizes(train_steps=steps), [])
        assert found == {name: rate.to_dict() for name, rate in RATES.items()} and len(judged) == times


def test_a_training_that_fails_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="ended with status 1"):
        data_ablation.train({"loop": {"steps": 0}}, tmp_path, tmp_path)


def test_table_and_command(tmp_path, monkeypatch):
    monkeypatch.setattr(data_ablation, "make_pairs", lambda *given: {"filter": Counter(kept=3)})
    monkeypatch.setattr(
        data_ablation, "draw_sets", lambda *given: {"all": (stage(tmp_path / "filter", "filter", (3,)), 3)}
    )
    monkeypatch.setattr(
        data_ablation, "measure_set", lambda *given: {name: rate.to_dict() for name, rate in RATES.items()}
    )
    place = tmp_path / "ablation.json"
    data_ablation.main(["--work", str(tmp_path), "--json", str(place), "--samples", "2", "--guidance", "2", "5"])
    record = json.loads(place.read_text())
    assert record["rows"] == [
        ["all", "3", "50.0 ± 10.0 % (n 20)", "50.0 ± 10.0 % (n 20)", "0.500 ± 0.100", "0.500 ± 0.100"]
    ]
    assert len(record["columns"]) == len(record["rows"][0]) == len(table_row("all", 3, record["figures"]["all"]))
    assert record["command"].endswith("--work DIR --json FILE --guidance 2.0 5.0 --samples 2") and record["edits"] == 10
    assert command_of(Sizes()) == "python -m any2pix.evaluation.data_ablation --work DIR --json FILE"
    assert record["yield"]["filter"]["kept"] == 3
    with pytest.raises(SystemExit):
        data_ablation.main(["--work", str(tmp_path), "--captions", "0"])
