"""ImageBind from the bundled file and from files of the published layout."""

import shutil

import numpy as np
import pytest
import torch
from any2pix.datagen.sounds import SOUND_KINDS, SUBJECT_SOUNDS, synthesize
from any2pix.datagen.toyland import TEST_SEEDS_FROM, Scene, caption, render, sample_scene
from any2pix.datagen.wording import WEATHER_NOUNS
from any2pix.loading.files import CheckpointError, write_network_file
from any2pix.loading.imagebind import dims_from_shapes, load_imagebind
from any2pix.loading.strict import EmptyWeights
from any2pix.miniature import manifest
from any2pix.models.imagebind import ImageBind, ImageBindDims
from any2pix.stages.encode import encode_audio, encode_image, encode_text
from tokenizers import Tokenizer, models
from torch.testing import assert_close


@pytest.fixture(scope="module")
def miniature() -> ImageBind:
    return load_imagebind(manifest.FOLDER / manifest.IMAGEBIND)


@pytest.fixture
def small(networks) -> ImageBind:
    return networks["imagebind"]


@pytest.fixture
def published(tmp_path, published_files, small, small_is_published):
    """A file as published, only smaller, and a loader that takes these widths for the published ones."""
    return shutil.copy(published_files["imagebind"], tmp_path), small


def test_the_published_sizes_are_read_from_the_shapes():
    with EmptyWeights():
        state_dict = ImageBind(ImageBindDims.published()).state_dict()
    assert dims_from_shapes(state_dict, "imagebind_huge.pth") == ImageBindDims.published()


def test_a_published_file_is_read_without_its_other_modalities(published):
    path, network = published
    loaded = load_imagebind(path)
    pixels = torch.rand(1, 3, 28, 28)
    assert_close(loaded.encode_image(pixels), network.encode_image(pixels))
    assert loaded.tokenizer is None
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    with pytest.raises(ValueError, match="has no tokenizer"):
        encode_text(loaded, "a cat")


def test_a_published_file_with_a_tokenizer(published):
    path, _ = published
    words = {chr(97 + index): index for index in range(26)}
    vocabulary = {**words, **{str(index): index for index in range(26, 58)}, "<|startoftext|>": 58, "<|endoftext|>": 59}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    assert encode_text(load_imagebind(path, tokenizer=tokenizer), "cat").shape == (8,)
    with pytest.raises(CheckpointError, match="has 60 tokens, its tokenizer 0"):
        load_imagebind(path, tokenizer=Tokenizer(models.BPE()))


def test_dtype_of_the_weights(published):
    path, _ = published
    assert {parameter.dtype for parameter in load_imagebind(path, dtype=torch.bfloat16).parameters()} == {
        torch.bfloat16
    }


def test_a_missing_and_an_unexpected_key_are_named(published):
    path, network = published
    state_dict = network.state_dict()
    del state_dict["modality_trunks.text.blocks.0.norm_1.bias"]
    torch.save({**state_dict, "modality_heads.smell.0.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"missing: .*norm_1\.bias; not expected: modality_heads\.smell"):
        load_imagebind(path)


def test_a_file_without_its_stems(published):
    path, network = published
    state_dict = {key: value for key, value in network.state_dict().items() if "audio" not in key}
    torch.save(state_dict, path)
    with pytest.raises(CheckpointError, match=r"lacks modality_preprocessors\.audio"):
        load_imagebind(path)


def test_unknown_widths_without_sizes_in_the_metadata(small, tmp_path):
    path = tmp_path / "other.pth"
    torch.save(small.state_dict(), path)
    with pytest.raises(CheckpointError, match="vision width of 32, the published ImageBind has 1280"):
        load_imagebind(path)


def test_a_tokenizer_that_does_not_fit(small, tmp_path):
    path = tmp_path / "x.safetensors"
    tokenizer = Tokenizer(models.BPE({"a": 0}, []))
    write_network_file(path, "imagebind", small.state_dict(), small.dims.to_dict(), tokenizer.to_str())
    with pytest.raises(CheckpointError, match="has 60 tokens, its tokenizer 1"):
        load_imagebind(path)


def test_the_miniature_knows_toyland(miniature):
    rng = np.random.default_rng(5)
    scenes = [sample_scene(rng, "test") for _ in range(40)]
    others = [Scene(*sample_scene(rng, "test").combination, seed=0) for _ in range(20)]
    images = torch.stack([encode_image(miniature, torch.from_numpy(render(scene)) / 255) for scene in scenes])
    texts = torch.stack([encode_text(miniature, caption(scene)) for scene in [*scenes, *others]])
    texts = texts / texts.norm(dim=-1, keepdim=True)
    named = [caption([*scenes, *others][index]) for index in (images @ texts.T).argmax(dim=1)]
    right = sum(name == caption(scene) for name, scene in zip(named, scenes, strict=True))
    assert right >= 34


def test_the_miniature_hears_what_texts_say(miniature):
    words = [f"a {kind}" if kind in SUBJECT_SOUNDS else WEATHER_NOUNS[kind] for kind in SOUND_KINDS]
    texts = torch.stack([encode_text(miniature, word) for word in words])
    for index, kind in enumerate(SOUND_KINDS):
        waveform, rate = synthesize(kind, TEST_SEEDS_FROM + index)
        sound = encode_audio(miniature, torch.from_numpy(waveform), rate)
        assert words[int((texts @ sound).argmax())] == words[index]
