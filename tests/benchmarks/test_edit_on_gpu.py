"""The benchmark for a GPU, run at tiny sizes on the CPU: every stage and both shares are there."""

import json

import pytest
import torch
from any2pix.benchmarks import edit_on_gpu

OPTIONS = ["--dims", "tiny", "--device", "cpu", "--side", "64", "--steps", "2", "--prompt", "64", "--tokens", "4"]


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_every_stage_is_timed_and_shares_are_consistent(tmp_path, dtype):
    out = tmp_path / "found.json"
    more = ["--dtype", dtype, "--batches", "2", "--repeats", "1", "--json", str(out)]
    edit_on_gpu.main([*OPTIONS, *more])
    found = json.loads(out.read_text())
    assert list(found["stages"]) == [
        "encode a picture and a sound",
        "encode 8 pictures and a sound",
        "LLM, 4 tokens",
        "LLM, prompt and first token",
        "LLM, 2 instructions at once",
        "prior and mix",
        "VAE encode",
        "inversion, 2 steps",
        "sampling, 2 steps",
        "VAE decode",
    ]
    assert all(stage["seconds"] > 0 for stage in found["stages"].values())
    shares = found["shares"]
    assert shares["unet_share"] == pytest.approx(shares["unet_flops"] / shares["matrix_flops"])
    assert shares["decode_share"] == pytest.approx(shares["decode_bytes"] / shares["bandwidth_bytes"])
    assert "not known" in edit_on_gpu.tables(found)  # memory peaks are a CUDA device's


def test_the_sizes_of_the_release_are_the_published_ones():
    size = edit_on_gpu.sizes("full")
    with torch.device("meta"):
        llm = edit_on_gpu.MultimodalLLM(size.llm)
        unet = edit_on_gpu.UNet2DConditionModel(**size.unet.unet_config())
        vae = edit_on_gpu.AutoencoderKL(**size.vae)
    billions = [sum(p.numel() for p in module.parameters()) / 1e9 for module in (llm, unet, vae)]
    assert billions == pytest.approx([6.78, 2.57, 0.0837], rel=0.005)


def test_a_prompt_without_room_for_its_references_is_refused(capsys):
    with pytest.raises(SystemExit):
        edit_on_gpu.main([*OPTIONS, "--prompt", "60"])
    assert "--prompt must be above 60" in capsys.readouterr().err


def test_the_default_dtype_comes_back():
    with pytest.raises(RuntimeError), edit_on_gpu.made_on(torch.device("cpu"), torch.bfloat16):
        assert torch.zeros(1).dtype == torch.bfloat16
        raise RuntimeError
    assert torch.zeros(1).dtype == torch.float32
