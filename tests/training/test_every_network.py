"""Every network's script trains by its recipe, cut down to seconds, and leaves a file that loads."""

import importlib

import pytest
from any2pix.evaluation.judge import load_judge
from any2pix.loading.autoencoder import load_autoencoder
from any2pix.loading.diffusion import load_embedding_diffusion
from any2pix.loading.imagebind import load_imagebind
from any2pix.loading.llm import load_llm
from any2pix.loading.prior import load_prior
from any2pix.miniature import manifest
from any2pix.models.backbone import MINIATURE, SDXL
from any2pix.training import train_diffusion
from any2pix.training.recipe_files import load_recipe, read_section
from any2pix.training.recipe_types import DiffusionRecipe

CUT = {
    "autoencoder": ["network.widths=[32, 32, 32]", "data.pictures=6", "data.held_out_pictures=2"],
    "imagebind": ["data={pictures: 40, held_out_pictures: 30, sounds: 10, held_out_sounds: 10, seed: 1}"],
    "diffusion": ["network.widths=[32, 32, 32]", "data.pictures=6"],
    "judge": ["data.pictures=6", "data.held_out_pictures=3", "model.widths=[8, 16]"],
    "prior": ["network.width=32", "network.layers=1", "data={pictures: 6, messy_share: 0.6, twins: 3, sounds: 1, "
              "held_out_scenes: 3, held_out_sounds: 1, seed: 1}"],
    "llm": ["model.vocab_size=700", "data={families: 25, takes: 1, tokenizer_samples: 20, seed: 1}",
            "scores={samples: 2, seed: 1}", "llm-stage1.steps=2", "llm-stage2.steps=2",
            "loop={batch_size: 2, seed: 1}"],
}  # fmt: skip
LOOP = ["loop.steps=2", "loop.warmup=1", "loop.batch_size=2", "loop.mixed_precision='no'"]
MORE = {"imagebind": ["loop.batch_size=12", "batch={sounds: 4, second_views: 2, ink_share: 0.5}"], "llm": []}
READERS = {
    "autoencoder": lambda out: load_autoencoder(out / manifest.VAE),
    "imagebind": lambda out: load_imagebind(out / manifest.IMAGEBIND),
    "diffusion": lambda out: load_embedding_diffusion(out / manifest.UNET, out / manifest.ADAPTER),
    "judge": lambda out: load_judge(out / manifest.JUDGE),
    "prior": lambda out: load_prior(out / manifest.PRIOR),
    "llm": lambda out: load_llm(out / manifest.LLM),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("every")


@pytest.mark.parametrize("network", CUT)
def test_a_network_trains_by_its_recipe(network, place):
    script = importlib.import_module(f"any2pix.training.train_{network}")
    loop = [] if network == "llm" else LOOP
    recipe = load_recipe(network, changes=[*CUT[network], *loop, *MORE.get(network, [])])
    out = place / network  # alone there: what it builds on is the bundled miniature's
    out.mkdir()
    results = script.train(recipe, place / "work", out)
    assert results and all(isinstance(value, float) for value in results.values())
    assert READERS[network](out)


@pytest.mark.parametrize(("context", "backbone"), [(128, MINIATURE), (2048, SDXL)])
def test_the_backbone_is_the_one_that_loading_finds(context, backbone):
    changes = ["network.widths=[32, 32, 32]", f"network.context={context}"]
    recipe = read_section(DiffusionRecipe, load_recipe("diffusion", changes=changes))
    assert train_diffusion.build(recipe, embed=64, side=16).backbone is backbone
