"""Prompt-to-Prompt on small random UNets of both shapes: what is injected, when, and that nothing else changes."""

import pytest
import torch
from any2pix.datagen.pairs.alignment import align, choose_method, token_weights
from any2pix.datagen.pairs.attention_control import Control, controlled
from any2pix.datagen.pairs.prompt_to_prompt import draw, sample_pairs
from any2pix.models.diffusion import Conditioning, DiffusionDims
from diffusers import DDIMScheduler, UNet2DConditionModel

LENGTH, STEPS, START, END = 8, 4, 0, 1
CAT, DOG = (START, 5, 6, END), (START, 5, 7, END)
SDXL = DiffusionDims((32, 64), (0, 1), 1, 32, context=16, pooled=8, sample_size=8).unet_config()
SD = {
    "sample_size": 8, "block_out_channels": (32, 64), "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "layers_per_block": 1, "cross_attention_dim": 16,
    "attention_head_dim": 4,
}  # fmt: skip


@pytest.fixture(params=["SD", "SDXL"])
def pictures(request):
    """A function (texts..., shares=..., ...) -> latents of a small random UNet."""
    torch.manual_seed(0)
    config = {"SD": SD, "SDXL": SDXL}[request.param]
    unet = UNet2DConditionModel.from_config(config).eval()
    context, pooled = torch.randn(4, LENGTH, 16), torch.randn(4, 8)
    texts = Conditioning(context, pooled if request.param == "SDXL" else None)
    noise = torch.randn(2, 4, 8, 8)

    def run(rows=(0, 1, 2), shares=(0.0, 0.0), alignment=None, count=2, **options):
        scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False)
        alignment = alignment or align(CAT, DOG, LENGTH, "swap")
        return sample_pairs(
            unet, scheduler, texts.rows(list(rows)), alignment, noise[:count], torch.tensor(shares[:count]),
            torch.full((count,), 3.0), STEPS, **options,
        )  # fmt: skip

    run.unet = unet
    return run


def test_equal_captions_give_equal_pictures(pictures):
    same = align(CAT, CAT, LENGTH, "swap")
    for shares in ((1.0, 1.0), (0.0, 0.5)):
        latents = pictures((0, 1, 1), shares, same)
        torch.testing.assert_close(latents[:, 1], latents[:, 0])
    assert not torch.allclose(latents[0], latents[1])


def test_without_a_share_it_is_plain_sampling(pictures):
    """Of each caption alone, from the same noise."""
    pair = pictures((0, 1, 2))
    for side, row in enumerate((1, 2)):
        alone = pictures((0, row, row))
        torch.testing.assert_close(pair[:, side], alone[:, 0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(pair[:, 0], pair[:, 1], atol=1e-3)


@pytest.mark.parametrize("maps", ["cross", "self", "both"])
def test_only_the_edited_picture_changes(pictures, maps):
    plain, edited = pictures(), pictures(shares=(1.0, 1.0), maps=maps)
    torch.testing.assert_close(edited[:, 0], plain[:, 0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(edited[:, 1], plain[:, 1], atol=1e-3)


def test_each_candidate_has_its_own_share(pictures):
    both = pictures(shares=(1.0, 0.0))
    torch.testing.assert_close(both[0], pictures(shares=(1.0,), count=1)[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(both[1], pictures()[1], rtol=1e-4, atol=1e-4)


def test_injected_maps_are_the_recorded_ones(pictures):
    """In the first half of the steps, in every layer; a swapped word takes the old word's map, exactly."""
    seen = []
    pictures(shares=(0.5, 0.5), record=lambda *found: seen.append(found))
    layers = len(pictures.unet.attn_processors)
    assert len(seen) == STEPS / 2 * layers and len({name for name, *_ in seen}) == layers
    for _, is_cross, source, edited in seen:
        assert source.sum(-1).allclose(torch.ones(()))
        if is_cross:
            assert torch.equal(edited[1], source[1]) and not torch.equal(edited[0], edited[1])
        else:
            assert torch.equal(edited, source)


def test_refinement_leaves_new_words_their_own_maps(pictures):
    added = (START, 5, 9, 6, END)
    alignment = align(CAT, added, LENGTH, "refine")
    seen = []
    pictures(shares=(1.0, 1.0), alignment=alignment, record=lambda *found: seen.append(found))
    _, _, source, edited = next(found for found in seen if found[1])
    for new, old in ((0, 0), (1, 1), (3, 2), (4, 3), (5, 5), (7, 7)):
        assert torch.equal(edited[1, ..., new], source[1, ..., old])
    assert not torch.allclose(edited[1, ..., 2], source[1, ..., 2])


def test_reweighting_scales_the_map_of_its_word(pictures):
    weight = token_weights(DOG, {(7,): 2.5}, LENGTH)
    seen = []
    pictures(
        shares=(1.0, 1.0), alignment=align(CAT, DOG, LENGTH, "swap", weight), record=lambda *found: seen.append(found)
    )
    _, _, source, edited = next(found for found in seen if found[1])
    torch.testing.assert_close(edited[1, ..., 2], 2.5 * source[1, ..., 2])
    assert torch.equal(edited[1, ..., 1], source[1, ..., 1])


def test_the_unet_gets_its_own_processors_back(pictures):
    before = dict(pictures.unet.attn_processors)
    with (
        pytest.raises(RuntimeError, match="stop"),
        controlled(pictures.unet, Control(align(CAT, DOG, LENGTH, "swap"), 1)),
    ):
        raise RuntimeError("stop")
    assert pictures.unet.attn_processors == before


def test_a_word_of_more_tokens_shares_the_old_map():
    alignment = align(CAT, (START, 5, 7, 8, END), LENGTH, "swap")
    assert alignment.mapper[2, 2:4].tolist() == [0.5, 0.5]
    assert alignment.share.tolist() == [1, 1, 1, 1, 1, 1, 1, 1]
    # Position 4 is the second caption's end and the first one's padding: it follows the end token.
    assert alignment.mapper[3, 4] == 1 and alignment.mapper[4].sum() == 0


def test_a_shorter_caption_has_padding_of_its_own():
    alignment = align((START, 5, 9, 6, END), CAT, LENGTH, "refine")
    assert alignment.share.tolist() == [1, 1, 1, 1, 0, 1, 1, 1]
    full = tuple(range(LENGTH))
    assert align(full, full, LENGTH, "refine").mapper.equal(torch.eye(LENGTH))


def test_method_by_the_number_of_words():
    assert choose_method("a cat at night", "a dog at night") == "swap"
    assert choose_method("a cat", "a cat at night") == "refine"


def test_shares_are_drawn_evenly():
    shares = draw(2000, (0.1, 0.9), torch.Generator().manual_seed(1))
    assert shares.min() >= 0.1 and shares.max() <= 0.9 and abs(shares.mean() - 0.5) < 0.02


@pytest.mark.parametrize(
    "options, message",
    [({"rows": (1, 2)}, "empty prompt"), ({"shares": (1.5, 0.0)}, "between 0 and 1"), ({"maps": "all"}, "cross, self")],
)  # fmt: skip
def test_bad_input_is_named(pictures, options, message):
    with pytest.raises(ValueError, match=message):
        pictures(**options)


def test_bad_captions_are_named():
    with pytest.raises(ValueError, match="9 tokens"):
        align(range(9), CAT, LENGTH, "swap")
    with pytest.raises(ValueError, match="does not occur"):
        token_weights(CAT, {(7,): 2.0}, LENGTH)
    with pytest.raises(ValueError, match="no alignment"):
        align(CAT, DOG, LENGTH, "copy")
