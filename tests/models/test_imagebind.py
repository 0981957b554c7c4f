"""ImageBind: the published layout, shapes and norms, gradients, the contrastive loss, half-precision storage."""

from dataclasses import replace

import pytest
import torch
from any2pix.loading.strict import EmptyWeights
from any2pix.models.imagebind import AUDIO_SCALE, Attention, Block, ImageBind, ImageBindDims, contrastive_loss
from torch import nn
from torch.testing import assert_close

TINY = ImageBindDims(
    embed=16,
    vision_width=32,
    vision_blocks=2,
    vision_heads=4,
    audio_width=24,
    audio_blocks=2,
    audio_heads=2,
    text_width=24,
    text_blocks=2,
    text_heads=2,
    image_size=32,
    patch=16,
    audio_stride=16,
    text_context=12,
    text_vocab=50,
)


@pytest.fixture
def network() -> ImageBind:
    torch.manual_seed(0)
    return ImageBind(TINY).eval()


def inputs_of(dims: ImageBindDims, batch: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, dims.text_vocab - 1, (batch, dims.text_context), generator=generator)
    tokens[:, 6] = dims.text_vocab - 1
    tokens[:, 7:] = 0
    return {
        "image": torch.randn(batch, 3, dims.image_size, dims.image_size, generator=generator),
        "audio": torch.randn(batch, 3, 1, dims.mel_bins, dims.mel_frames, generator=generator),
        "text": tokens,
    }


def test_the_published_sizes_give_the_published_layout():
    with EmptyWeights():
        state_dict = ImageBind(ImageBindDims.published()).state_dict()
    shapes = {key: tuple(value.shape) for key, value in state_dict.items()}
    expected = {
        "modality_preprocessors.vision.cls_token": (1, 1, 1280),
        "modality_preprocessors.vision.rgbt_stem.proj.1.weight": (1280, 3, 2, 14, 14),
        "modality_preprocessors.vision.pos_embedding_helper.pos_embed": (1, 257, 1280),
        "modality_preprocessors.text.mask": (77, 77),
        "modality_preprocessors.text.token_embedding.weight": (49408, 1024),
        "modality_preprocessors.text.pos_embed": (1, 77, 1024),
        "modality_preprocessors.audio.rgbt_stem.proj.weight": (768, 1, 16, 16),
        "modality_preprocessors.audio.rgbt_stem.norm_layer.weight": (768,),
        "modality_preprocessors.audio.pos_embedding_helper.pos_embed": (1, 229, 768),
        "modality_trunks.vision.pre_transformer_layer.0.weight": (1280,),
        "modality_trunks.vision.blocks.31.attn.in_proj_weight": (3840, 1280),
        "modality_trunks.vision.blocks.31.attn.in_proj_bias": (3840,),
        "modality_trunks.text.blocks.23.attn.out_proj.weight": (1024, 1024),
        "modality_trunks.text.blocks.23.mlp.fc1.weight": (4096, 1024),
        "modality_trunks.audio.blocks.11.attn.bias_k": (1, 1, 768),
        "modality_trunks.audio.blocks.11.attn.bias_v": (1, 1, 768),
        "modality_trunks.audio.blocks.11.norm_2.bias": (768,),
        "modality_heads.vision.0.weight": (1280,),
        "modality_heads.vision.2.weight": (1024, 1280),
        "modality_heads.audio.2.weight": (1024, 768),
        "modality_heads.text.proj.0.weight": (1024,),
        "modality_heads.text.proj.1.weight": (1024, 1024),
        "modality_postprocessors.text.1.log_logit_scale": (),
        "modality_postprocessors.audio.1.log_logit_scale": (),
    }
    assert {key: shapes.get(key) for key in expected} == expected
    blocks = 12  # attention 4, two norms 4, MLP 4
    around = 3 + 5 + 3 + 2 + 3 * 3 + 2  # stems of vision, audio, text; pre-norm; heads; scales
    assert len(shapes) == 32 * blocks + 24 * blocks + 12 * (blocks + 2) + around


def test_norms_are_those_of_each_modality(network):
    inputs = inputs_of(TINY)
    image, audio, text = (
        network.encode_image(inputs["image"]),
        network.encode_audio(inputs["audio"]),
        network.encode_text(inputs["text"]),
    )
    assert image.shape == audio.shape == text.shape == (2, TINY.embed)
    assert_close(image.norm(dim=-1), torch.ones(2))
    one_clip = network.encode_audio(inputs["audio"][:, :1])
    assert_close(one_clip.norm(dim=-1), torch.full((2,), AUDIO_SCALE))
    assert_close(text.norm(dim=-1), torch.full((2,), 1 / 0.07))


def test_a_sound_is_the_mean_of_its_clips(network):
    clips = inputs_of(TINY)["audio"]
    each = torch.stack([network.encode_audio(clips[:, [index]]) for index in range(3)])
    assert_close(network.encode_audio(clips), each.mean(dim=0))


def test_the_text_scale_is_cut_at_100(network):
    network.modality_postprocessors["text"][1].log_logit_scale.data.fill_(6.0)
    assert_close(network.encode_text(inputs_of(TINY)["text"]).norm(dim=-1), torch.full((2,), 100.0))


def test_nothing_after_the_end_of_a_text_counts(network):
    tokens = inputs_of(TINY)["text"]
    other = tokens.clone()
    other[:, 7:] = 3
    assert_close(network.encode_text(other), network.encode_text(tokens))
    assert_close(network.encode_text(tokens[:, :7]), network.encode_text(tokens))
    other[:, 5] = (other[:, 5] + 1) % 40
    assert not torch.allclose(network.encode_text(other), network.encode_text(tokens))


@pytest.mark.parametrize("bias_kv", [False, True])
def test_attention_is_torchs_multihead_attention(bias_kv):
    torch.manual_seed(0)
    ours = Attention(24, 4, nn, bias_kv)
    theirs = nn.MultiheadAttention(24, 4, add_bias_kv=bias_kv, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 5, 24)
    mask = None if bias_kv else torch.full((5, 5), float("-inf")).triu(1)
    assert_close(ours(x, mask), theirs(x, x, x, attn_mask=mask, need_weights=False)[0])


def test_every_parameter_learns(network):
    network.train()
    inputs = inputs_of(TINY, batch=3)
    image, audio, text = (
        network.encode_image(inputs["image"]),
        network.encode_audio(inputs["audio"]),
        network.encode_text(inputs["text"]),
    )
    temperature = 1 / text.norm(dim=-1).mean()
    (contrastive_loss(image, text, temperature) + contrastive_loss(image, audio, 0.05)).backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []


def test_drop_path_only_while_training():
    torch.manual_seed(0)
    block = Block(8, 2, nn, bias_kv=False, drop_path=0.5)
    tokens = torch.randn(64, 3, 8)
    assert_close(block.eval()(tokens, None), block(tokens, None))
    dropped = (block.train()(tokens, None) == tokens).all(dim=(1, 2))
    assert 4 <= int(dropped.sum()) <= 40  # both branches gone: a quarter of 64


def test_stored_in_half_precision_the_answer_hardly_moves(network):
    inputs = inputs_of(TINY)
    before = network.encode_image(inputs["image"]), network.encode_text(inputs["text"])
    network.bfloat16()
    after = network.encode_image(inputs["image"].bfloat16()), network.encode_text(inputs["text"])
    for full, half in zip(before, after, strict=True):
        assert half.dtype == torch.float32
        assert float(torch.cosine_similarity(full, half).detach().min()) > 0.995


def test_contrastive_loss_on_hand_made_pairs():
    a = torch.eye(2)
    assert_close(contrastive_loss(a, a, 1.0), -torch.tensor([1.0, 0.0]).log_softmax(0)[0])
    assert_close(contrastive_loss(5 * a, 7 * a, 1.0), contrastive_loss(a, a, 1.0))
    assert float(contrastive_loss(a, a.flip(0), 0.1)) > float(contrastive_loss(a, a, 0.1))


def test_contrastive_loss_with_several_positives_and_with_none():
    a, b = torch.eye(3), torch.eye(3)[:2]
    assert_close(contrastive_loss(a, b, 1.0, torch.eye(3, 2)), contrastive_loss(b, a, 1.0, torch.eye(2, 3)))
    everything = torch.ones(3, 3)
    assert_close(contrastive_loss(a, a, 1.0, everything), -torch.eye(3)[0].log_softmax(0).mean())
    assert float(contrastive_loss(a, b, 1.0, torch.zeros(3, 2))) == 0.0


def test_dims_travel_as_plain_values():
    assert ImageBindDims(**ImageBindDims.published().to_dict()) == ImageBindDims.published()
    assert ImageBindDims.published().audio_patches == 228
    assert replace(TINY, image_size=64).image_patches == 16
