"""Weights in 8 bits by rows: small errors, floats when read, nothing changed for files without them."""

import pytest
import torch
from any2pix.loading.diffusion import build_unet, load_unet
from any2pix.loading.files import read_network_file, write_network_file
from any2pix.loading.quantised import SCALE_SUFFIX, dequantise, quantise_rows
from any2pix.miniature import manifest
from any2pix.models.diffusion import default_time_ids
from safetensors import safe_open

OF_THE_ROWS_LARGEST = 0.005
CHANGE_OF_EPS = 0.01


def weights():
    generator = torch.Generator().manual_seed(0)
    return {
        "wide.weight": torch.randn(64, 160, generator=generator) * torch.logspace(-4, 2, 64)[:, None],
        "conv.weight": torch.randn(32, 32, 3, 3, generator=generator),
        "small.weight": torch.randn(8, 8, generator=generator),
        "norm.bias": torch.randn(64, generator=generator),
        "counter": torch.arange(4),
    }


def test_errors_are_small_in_every_row_however_rows_differ():
    before = weights()
    after = dequantise(quantise_rows(before))
    assert list(after) == list(before)
    for key in ("wide.weight", "conv.weight"):
        error = (after[key].float() - before[key]).flatten(1).abs().amax(dim=1)
        assert (error <= OF_THE_ROWS_LARGEST * before[key].flatten(1).abs().amax(dim=1)).all()


def test_only_large_weights_are_stored_in_8_bits():
    stored = quantise_rows(weights())
    assert {key for key, value in stored.items() if value.dtype == torch.int8} == {"wide.weight", "conv.weight"}
    assert stored["wide.weight" + SCALE_SUFFIX].shape == (64,)
    assert stored["norm.bias"].dtype == torch.float16 and stored["counter"].dtype == torch.int64


def test_a_row_of_zeros_stays_zero():
    zeros = {"conv_in.weight": torch.cat([torch.zeros(1, 5000), torch.ones(1, 5000)])}
    torch.testing.assert_close(dequantise(quantise_rows(zeros))["conv_in.weight"].float(), zeros["conv_in.weight"])


def test_files_without_8_bits_are_read_as_they_are():
    plain = {**weights(), "odd.row_scale": torch.ones(3), "levels": torch.ones(9, dtype=torch.int8)}
    assert all(dequantise(plain)[key] is value for key, value in plain.items())


@pytest.fixture(scope="module")
def miniature():
    return load_unet(manifest.FOLDER / manifest.UNET, torch.float32)


@torch.no_grad()
def test_the_miniatures_noise_hardly_changes(miniature, tmp_path):
    state_dict, config = miniature
    path = tmp_path / "unet.safetensors"
    write_network_file(path, "unet", state_dict, config, in_8_bits=True)
    assert path.stat().st_size < 0.27 * sum(value.nbytes for value in state_dict.values())
    with safe_open(path, "pt") as file:
        assert file.get_tensor("conv_in.weight").dtype == torch.float16  # 3456 numbers
        assert file.get_tensor("conv_out.weight").dtype == torch.float16
        assert file.get_tensor("mid_block.resnets.0.conv1.weight").dtype == torch.int8
    stored, again = load_unet(path, torch.float32)
    assert again == {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()}
    assert all(value.dtype == torch.float32 for value in stored.values())
    generator = torch.Generator().manual_seed(0)
    z, context, pooled = (torch.randn(shape, generator=generator) for shape in ((4, 4, 16, 16), (4, 1, 128), (4, 64)))
    added = {"text_embeds": pooled, "time_ids": default_time_ids(4, 128, 128)}
    timesteps = torch.tensor([10, 300, 600, 990])
    eps, changed = (
        build_unet(state, config)(z, timesteps, context, added_cond_kwargs=added).sample
        for state in (state_dict, stored)
    )
    assert ((changed - eps).norm() / eps.norm()).item() < CHANGE_OF_EPS


def test_any_network_file_can_hold_them(tmp_path):
    path = tmp_path / "x.safetensors"
    write_network_file(path, "vae", weights(), {}, in_8_bits=True)
    read = read_network_file(path, "vae", torch.float32).state_dict
    assert set(read) == set(weights()) and read["wide.weight"].dtype == torch.float32
