"""The configuration of train_instructpix2pix: what is unknown, missing or of no use is named before anything is
read."""

import copy

import pytest
from any2pix.training.digests import file_digest
from any2pix.training.loop_config import LoopConfig
from any2pix.training.pix2pix_config import ShardData, Start, ToylandData, read_recipe
from any2pix.training.recipe_files import load_recipe, read_section


def config(**changes):
    """The bundled configuration, with these values in its sections."""
    found = copy.deepcopy(load_recipe("instructpix2pix"))
    for key, value in changes.items():
        found[key] = {**found[key], **value} if isinstance(value, dict) else value
    return found


def test_the_bundled_configuration_is_read_whole():
    recipe = read_recipe(config())
    assert recipe.start == Start() and recipe.data == ToylandData(4000, 51) and recipe.weights == "int8"
    assert recipe.loop == LoopConfig(**load_recipe("instructpix2pix")["loop"]) and recipe.train_text_encoder
    assert recipe.loop.gradient_accumulation_steps == 1
    shards = read_recipe({**config(), "data": {"shards": "somewhere", "flip": 0}}).data
    assert shards == ShardData("somewhere", flip=0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"start": {"tokeniser": "x"}}, "start has tokeniser, which is no key of it. Its keys are unet,"),
        ({"start": None}, "start is None; it must hold the keys unet,"),
        ({"start": {"unet": 5}}, "start: unet is 5; it must be of type str or null"),
        ({"dropout": {"texts": 0.1}}, "dropout has texts"),
        ({"dropout": {"both": "a lot"}}, "dropout: both is 'a lot'; it must be of type float"),
        ({"loop": {"epochs": 3}}, "loop has epochs"),
        ({"loop": {"learning_rate": "1e-4"}},
        "'1e-4'; it must be of type float. YAML needs a decimal point before an exponent"),
        ({"loop": {"steps": 1.5}}, "loop: steps is 1.5; it must be of type int"),
        ({"loop": {"steps": True}}, "loop: steps is True; it must be of type int"),
        ({"data": {"flip": 0.5}}, "data has flip.*Its keys are families, seed"),
        ({"data": {"families": 0}}, "families is 0; it must be at least 1"),
        ({"train_text_encoder": "no"}, "train_text_encoder is 'no'; it must be of type bool"),
        ({"source_gain": 0.0}, "source_gain is 0.0; it must be above 0"),
        ({"subject_weight": -1.0}, "subject_weight is -1.0; it must be above 0"),
        ({"weights": "int4"}, "weights is 'int4'; it must be one of int8, fp16, fp32"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(changes, words):
    with pytest.raises(ValueError, match=words):
        read_recipe(config(**changes))


@pytest.mark.parametrize(("section", "key"), [("loop", "steps"), ("data", "seed"), ("loop", "learning_rate")])
def test_what_is_missing_is_named(section, key):
    found = config()
    del found[section][key]
    with pytest.raises(ValueError, match=f"{section} lacks {key}"):
        read_recipe(found)
    del found[section]
    with pytest.raises(ValueError, match="lacks loop" if section == "loop" else "both shards and families, or neither"):
        read_recipe(found)


def test_a_whole_number_will_do_for_a_float():
    assert read_section(LoopConfig, {"steps": 1, "batch_size": 1, "learning_rate": 1}, "loop").learning_rate == 1


def test_a_folder_stands_for_all_its_files(tmp_path):
    (tmp_path / "unet").mkdir()
    for name in ("config.json", "unet/weights.bin"):
        (tmp_path / name).write_text("one")
    digests = [file_digest(tmp_path)]
    (tmp_path / "unet/weights.bin").write_text("two")
    digests.append(file_digest(tmp_path))
    (tmp_path / "unet/weights.bin").rename(tmp_path / "weights.bin")
    digests.append(file_digest(tmp_path))
    assert len(set(digests)) == 3 and file_digest(tmp_path) == digests[-1]
