"""Our networks at the published sizes against what the authors' classes hold, every key and shape
(layouts/README.md)."""

import itertools
import json
import re
from pathlib import Path

import pytest
import torch
from any2pix.loading import diffusion, files, llm
from any2pix.loading.adapter import plan_adapter
from any2pix.loading.convert import check_plan
from any2pix.loading.diffusion import plan_unet
from any2pix.loading.errors import CheckpointError
from any2pix.loading.imagebind import plan_imagebind
from any2pix.loading.kinds import recognise
from any2pix.loading.llm import plan_llm
from any2pix.loading.prior import plan_prior
from any2pix.models.adapter import UnclipDims
from any2pix.models.diffusion import DiffusionDims
from any2pix.models.imagebind import ImageBindDims
from any2pix.models.mm_llm import ADDED_TOKENS, MMLLMDims
from any2pix.models.prior import PriorDims
from any2pix.models.two_view import TwoViewDims
from tokenizers import Tokenizer, models

LAYOUTS = Path(__file__).parent / "layouts"
RUN = re.compile(r"\{(\d+):(\d+)(?::(\d+))?\}")
# Where a published key lies that is not ours: its second part.
NOT_OURS = {
    "imagebind": {"depth", "thermal", "imu"},
    "llm": {"vision_tower", "mm_projector", "vae_projector_audio", "vae_predictor_audio"},
    "prior": set(),
    "two_view": set(),
    "unclip_unet": set(),
}
CONFIG = {  # of llm-retrained/, as far as it matters
    "model_type": "instructany2pix", "vocab_size": 32009, "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5, "rope_scaling": None, "hidden_act": "silu", "mm_projector_type": "mlp2x_gelu",
}  # fmt: skip


def read_layout(name) -> dict[str, torch.Tensor]:
    """Key -> meta tensor of a file in layouts/."""
    layout = {}
    count, *lines = (LAYOUTS / f"{name}.txt").read_text().splitlines()
    for line in lines:
        pattern, *shape = line.split(" ")
        runs = [range(int(a), int(b) + 1, int(step or 1)) for a, b, step in RUN.findall(pattern)]
        for numbers in itertools.product(*runs):
            key = RUN.sub("{}", pattern).format(*numbers)
            assert key not in layout
            layout[key] = torch.empty([int(size) for size in shape], device="meta")
    assert count == f"# {len(layout)} keys"
    return layout


class Published:
    """Stands in for the opened file or folder: the layout, and no numbers."""

    def __init__(self, path, layout):
        self.path, self.layout, self.metadata = Path(path), layout, {}


@pytest.fixture
def plan_of(tmp_path, monkeypatch):
    """A function: the plan that the loaders make of a published layout, given as a file or a folder."""
    (tmp_path / "tokenizer").mkdir()
    words = ["<unk>", "<s>", "</s>", *(f"w{index}" for index in range(32000 - 3)), *ADDED_TOKENS]
    tokenizer = Tokenizer(models.WordLevel(dict(zip(words, range(len(words)), strict=True)), unk_token="<unk>"))
    tokenizer.save(str(tmp_path / "tokenizer" / "tokenizer.json"))

    def plan(name, layout):
        config = CONFIG if name == "llm" else DiffusionDims().unet_config()
        (tmp_path / "config.json").write_text(json.dumps(config))
        monkeypatch.setattr(files, "WeightFile", lambda path, _: Published(path, layout))
        for module in (llm, diffusion):
            monkeypatch.setattr(module, "WeightFolder", lambda path, *_: Published(path, layout))
        planners = {"imagebind": plan_imagebind, "llm": plan_llm, "prior": plan_prior, "two_view": plan_adapter,
                    "unclip_unet": plan_unet}  # fmt: skip
        return planners[name](tmp_path if name in ("llm", "unclip_unet") else tmp_path / "published.bin")

    return plan


@pytest.mark.parametrize("name", NOT_OURS)
def test_every_key_and_shape_fits_at_the_published_size(name, plan_of):
    layout = read_layout(name)
    plan = plan_of(name, layout)
    check_plan(plan)
    assert set(plan.skipped) == {key for key in layout if key.split(".")[1] in NOT_OURS[name]}
    assert len(plan.names) + len(plan.skipped) == len(layout)


@pytest.mark.parametrize("name", NOT_OURS)
def test_one_key_less_more_or_of_another_shape_is_an_error_that_names_it(name, plan_of):
    layout = read_layout(name)
    ours = list(plan_of(name, layout).names)
    key = ours[len(ours) // 2]
    more = {**layout, "model.surprise.weight": torch.empty(3, device="meta")}
    other = {**layout, key: torch.empty(7, 7, 7, device="meta")}
    less = {name: value for name, value in layout.items() if name != key}
    for wrong, named in (
        (more, "not expected: model.surprise.weight"),
        (other, re.escape(f"{key} is (7, 7, 7)")),
        (less, key),
    ):
        with pytest.raises(CheckpointError, match=named):
            check_plan(plan_of(name, wrong))


def test_the_sizes_are_the_published_ones(plan_of):
    found = {
        name: json.loads(json.dumps(plan_of(name, read_layout(name)).dims))
        for name in ("imagebind", "prior", "two_view")
    }
    assert files.build_dims(ImageBindDims, found["imagebind"], "x") == ImageBindDims.published()
    assert files.build_dims(PriorDims, found["prior"], "x") == PriorDims.published()
    assert files.build_dims(TwoViewDims, found["two_view"], "x") == TwoViewDims.published()
    language = plan_of("llm", read_layout("llm")).dims
    published = MMLLMDims.published()
    assert (language["embed"], language["projector_hidden"]) == (published.embed, published.projector_hidden)
    assert published.llama.items() <= language["llama"].items()


def test_the_first_releases_file_is_a_unet_and_holds_the_projectors(plan_of, tmp_path):
    layout = read_layout("unclip_unet")
    assert recognise(layout) == "unet"
    plan_of("unclip_unet", layout)
    plan = plan_adapter(tmp_path / "published.bin")
    check_plan(plan)
    assert files.build_dims(UnclipDims, plan.dims, "x") == UnclipDims.published()
    assert len(plan.names) == 8


@pytest.mark.parametrize("name", NOT_OURS)
def test_what_old_versions_stored_is_passed_over(name, plan_of):
    constants = {
        "imagebind": (), "two_view": (), "unclip_unet": (),
        "llm": [f"model.layers.{layer}.self_attn.rotary_emb.inv_freq" for layer in range(32)],
        "prior": [f"model.h.{layer}.attn.{kind}" for layer in range(24) for kind in ("bias", "masked_bias")]
        + ["cond_stage_models.0.model.text_model.embeddings.position_ids"],
    }[name]  # fmt: skip
    layout = read_layout(name) | {key: torch.empty(1, device="meta") for key in constants}
    check_plan(plan_of(name, layout))
