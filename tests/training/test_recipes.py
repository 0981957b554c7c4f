"""Every bundled recipe is read whole and names its hardware; what is wrong in one is named; the command line changes
values and writes nothing into the shipped checkpoint."""

import json
import re

import pytest
from any2pix.miniature import manifest
from any2pix.training import recipe_types
from any2pix.training.command import network_file, run_command
from any2pix.training.loop_config import LoopConfig
from any2pix.training.pix2pix_config import read_recipe
from any2pix.training.recipe_files import RECIPES, load_recipe, read_section, recipe_names

TYPES = {
    "autoencoder": recipe_types.AutoencoderRecipe,
    "diffusion": recipe_types.DiffusionRecipe,
    "imagebind": recipe_types.ImageBindRecipe,
    "judge": recipe_types.JudgeRecipe,
    "llm": recipe_types.LLMRecipe,
    "prior": recipe_types.PriorRecipe,
    "text_diffusion": recipe_types.TextDiffusionRecipe,
}
HARDWARE = re.compile(r"\bcore|A100|H100")
BUNDLED = sorted((file.parent.name, file.stem) for file in RECIPES.glob("*/*.yaml"))


def read(network, recipe="miniature", changes=()):
    config = load_recipe(network, recipe, changes)
    return read_recipe(config) if network == "instructpix2pix" else read_section(TYPES[network], config)


def test_every_network_has_its_recipes():
    assert set(TYPES) | {"instructpix2pix"} == {network for network, _ in BUNDLED}
    assert all("miniature" in recipe_names(network) for network in TYPES)
    assert recipe_names("instructpix2pix") == ["miniature", "sd15", "sdxl"]


@pytest.mark.parametrize(("network", "recipe"), BUNDLED)
def test_a_bundled_recipe_is_read_and_names_hardware_and_time(network, recipe):
    assert read(network, recipe).loop
    opening = "".join(line for line in (RECIPES / network / f"{recipe}.yaml").open() if line.startswith("#"))
    assert HARDWARE.search(opening) and re.search(r"minutes|hours?\b", opening)


@pytest.mark.parametrize("recipe", ["sd15", "sdxl"])
def test_recipes_for_real_data_keep_their_batch_on_other_hardware(recipe):
    loop = read("instructpix2pix", recipe).loop
    samples = {loop.batch_size * processes * loop.accumulated(processes) for processes in (1, 2, 4, 8)}
    assert samples == {loop.global_batch_size}


@pytest.mark.parametrize("network", sorted(TYPES))
def test_a_key_that_a_network_does_not_know_is_named(network):
    with pytest.raises(ValueError, match="The recipe has colour, which is no key of it. Its keys are"):
        read(network, changes=["colour=red"])


@pytest.mark.parametrize(
    ("network", "change", "words"),
    [
        ("autoencoder", "network.widths=[64, wide]", "widths is 'wide'; it must be of type int"),
        ("autoencoder", "data.pictures=many", "data: pictures is 'many'; it must be of type int"),
        ("diffusion", "condition_dropout=2.0", "condition_dropout is 2.0; it must be a share"),
        ("diffusion", "adapter.width=3", "adapter has width"),
        ("text_diffusion", "min_snr=low", "min_snr is 'low'; it must be of type float or null"),
        ("imagebind", "weights.caption=null", "weights: caption is None; it must be of type float"),
        ("judge", "loop.optimizer=sgd", 'optimizer is "sgd"; it must be one of adamw, adamw8bit, adafactor'),
        ("judge", "loop.mixed_precision=no", 'mixed_precision is False; it must be of type str. YAML reads no'),
        ("llm", "wordings.base_unnamed=yes", "base_unnamed is True; it must be of type float"),
        ("prior", "noise_level={noise: loud}", "noise_level.noise is 'loud'"),
        ("instructpix2pix", "probes=0", "probes is 0; it must be at least 1"),
        ("instructpix2pix", "vae_batch=0", "vae_batch is 0"),
        ("judge", "loop.workers=-1", "workers is -1"),
        ("judge", "loop=fast", "loop is 'fast'; it must hold the keys"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named(network, change, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        read(network, changes=[change])


def test_changes_reach_into_sections_and_replace_them():
    recipe = read("instructpix2pix", changes=["loop.steps=7", "data={shards: pairs, flip: 0.0}", "start.unet=a/b"])
    assert recipe.loop.steps == 7 and recipe.data.shards == "pairs" and recipe.start.unet == "a/b"
    assert load_recipe("judge", changes=["loop.seed=1"])["loop"] == {**load_recipe("judge")["loop"], "seed": 1}


@pytest.mark.parametrize("change", ["loop.steps", "=3", "loop.=3", "loop.steps.more=3"])
def test_a_change_that_is_none_is_named(change):
    with pytest.raises(ValueError, match=re.escape(repr(change))):
        load_recipe("judge", changes=[change])


def test_a_recipe_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="no recipe 'sd16' for instructpix2pix. Give one of miniature, sd15, sdxl"):
        load_recipe("instructpix2pix", "sd16")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ValueError, match="a recipe is a mapping"):
        load_recipe("judge", tmp_path / "list.yaml")


def test_a_batch_that_cannot_be_shared_out_is_named():
    loop = {"steps": 1, "batch_size": 6, "learning_rate": 1.0}
    with pytest.raises(ValueError, match=r"global_batch_size is 16; .* batch_size \(6\) times .* processes \(2\)"):
        LoopConfig(**loop, global_batch_size=16).accumulated(2)
    with pytest.raises(ValueError, match="both given"):
        LoopConfig(**loop, global_batch_size=12, gradient_accumulation_steps=2)


def test_the_command_line_trains_by_a_changed_recipe_outside_the_shipped_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    seen = []

    def train(config, work, out):
        seen.append((config, work.resolve(), out.resolve()))
        return {"loss": 0.5}

    run_command(train, "judge", ["--set", "loop.steps=2", "data.pictures=3"])
    ((config, work, out),) = seen
    assert config["loop"]["steps"] == 2 and config["data"]["pictures"] == 3
    assert out.is_dir() and out.is_relative_to(tmp_path) and not out.is_relative_to(manifest.FOLDER)
    assert json.loads(capsys.readouterr().out) == {"loss": 0.5}


def test_a_network_to_build_on_is_ones_own_or_the_bundled_one(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "FOLDER", tmp_path / "bundled")
    assert network_file(tmp_path, "vae.safetensors") == tmp_path / "bundled/vae.safetensors"
    (tmp_path / "vae.safetensors").write_bytes(b"own")
    assert network_file(tmp_path, "vae.safetensors") == tmp_path / "vae.safetensors"
