"""Writes the keys and shapes of the published checkpoints, as the authors' own classes build them:
tests/loading/layouts.

    python tools/make_layouts.py --imagebind DIR --instructany2pix DIR

The folders are checkouts of github.com/facebookresearch/ImageBind and jacklishufan/InstructAny2Pix. It needs the
libraries that the latter names: transformers 4.34.1, diffusers 0.26.3. The classes are built at the published sizes on
the meta device: no weight is made. Where they would download a part, they get a network of that part's public config.
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from unittest.mock import MagicMock, patch

import torch
from torch import Tensor, nn

LAYOUTS = Path(__file__).resolve().parent.parent / "tests" / "loading" / "layouts"
VOCABULARY = 32000 + 9  # Vicuna's, and the tokens the released training script adds
# Public configs of what the classes would download: Vicuna-7B-v1.5, CLIP ViT-H/14 (laion2B), GPT-2 medium, SDXL base
# 1.0.
VICUNA = dict(
    vocab_size=VOCABULARY, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=32, max_position_embeddings=4096, rms_norm_eps=1e-5,
)  # fmt: skip
CLIP_TEXT = dict(
    vocab_size=49408,
    hidden_size=1024,
    intermediate_size=4096,
    num_hidden_layers=24,
    num_attention_heads=16,
    hidden_act="gelu",
)
CLIP_VISION = dict(
    hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16, patch_size=14,
    hidden_act="gelu",
    projection_dim=1024,
)  # fmt: skip
GPT2_MEDIUM = dict(n_embd=1024, n_layer=24, n_head=16)
SDXL = dict(
    sample_size=128, in_channels=4, out_channels=4, center_input_sample=False, flip_sin_to_cos=True, freq_shift=0,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    mid_block_type="UNetMidBlock2DCrossAttn",
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    block_out_channels=(320, 640, 1280), layers_per_block=2, cross_attention_dim=2048, transformer_layers_per_block=(1,
    2, 10),
    attention_head_dim=(5, 10, 20), use_linear_projection=True, addition_embed_type="text_time",
    addition_time_embed_dim=256,
    projection_class_embeddings_input_dim=2816,
)  # fmt: skip


def imagebind(options) -> dict[str, Tensor]:
    """imagebind_huge, all its modalities."""
    from goldens import authors

    authors.on_path(options.imagebind)
    authors.package("imagebind", options.imagebind / "imagebind")
    authors.stand_in("timm", "iopath", "ftfy", "einops")
    from imagebind.models import imagebind_model

    with patch("torch.linspace", partial(torch.linspace, device="cpu")):  # drop path rates, read as numbers
        return imagebind_model.imagebind_huge(pretrained=False).state_dict()


def llm(options) -> dict[str, Tensor]:
    """The released LLM with everything its config asks for: vision tower, audio heads."""
    _import_released(options)
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    def tower(*_, **__):
        return CLIPVisionModelWithProjection(CLIPVisionConfig(**CLIP_VISION))

    with (
        patch("transformers.CLIPVisionModelWithProjection.from_pretrained", tower),
        patch("transformers.CLIPImageProcessor.from_pretrained", MagicMock()),
    ):
        from instructany2pix.llm.model.language_model import any2pix_llama

        heads = dict(
            mm_vision_tower="laion/CLIP-ViT-H-14-laion2B-s32B-b79K", mm_vision_select_layer=-2, mm_hidden_size=1280,
            mm_projector_type="mlp2x_gelu", vae_image="vq-npz", vae_audio="vq-npz",
        )  # fmt: skip
        config = any2pix_llama.InstructAny2PixLMConfig(**VICUNA, **heads)
        return any2pix_llama.InstructAny2PixLMForCausalLM(config).state_dict()


def prior(options) -> dict[str, Tensor]:
    """The released prior at prior_config."""
    _import_released(options)
    from instructany2pix.prior import model, prior_config
    from transformers import CLIPTextConfig, CLIPTextModel, GPT2Config

    with (
        patch.object(model.CLIPTextModel, "from_pretrained", lambda *_: CLIPTextModel(CLIPTextConfig(**CLIP_TEXT))),
        patch.object(model.AutoTokenizer, "from_pretrained", MagicMock()),
        patch.object(model.GPT2Config, "from_pretrained", lambda *_: GPT2Config(**GPT2_MEDIUM)),
        patch.object(model.DDPMScheduler, "from_pretrained", MagicMock()),
    ):
        return model.InstructAny2PixPrior(**prior_config).state_dict()


def unclip_unet(options) -> dict[str, Tensor]:
    """UnCLipXL: SDXL's UNet, and the two projectors that the class adds."""
    _import_released(options)
    from instructany2pix.diffusion.sdxl_img2img_pipeline import UnCLipXL, UNet2DConditionModel

    network = UNet2DConditionModel(**SDXL)  # its __init__ hands arguments on by position, to an older diffusers
    network.adapt_project_dim, network.adapt_project_dim_2 = (
        parameter for parameter in UnCLipXL.__init__.__defaults__[:2]
    )
    UnCLipXL.add_prjection(network)
    return network.state_dict()


def two_view(options) -> dict[str, Tensor]:
    """The file that IPAdapterXL reads: its projection model, and its processors in the order of
    ``unet.attn_processors``."""
    _import_released(options)
    from diffusers import UNet2DConditionModel
    from instructany2pix.diffusion.ip_adapter import ip_adapter

    class Pipe:
        def __init__(self):
            self.unet = UNet2DConditionModel(**SDXL)

    adapter = object.__new__(ip_adapter.IPAdapterXL)
    adapter.pipe, adapter.device, adapter.num_tokens, adapter.image_encoder = Pipe(), "meta", 4, MagicMock()
    adapter.image_encoder.config.projection_dim = 1024  # D of ImageBind, which takes the place of CLIP
    adapter.set_ip_adapter()
    layers = nn.ModuleList(adapter.pipe.unet.attn_processors.values()).state_dict()
    return {
        **{f"image_proj.{key}": value for key, value in adapter.init_proj().state_dict().items()},
        **{f"ip_adapter.{key}": value for key, value in layers.items()},
    }


def compress(state_dict: dict[str, Tensor]) -> list[str]:
    """Lines "key shape"; {0:31} in a key stands for the numbers from 0 to 31, {1:7:2} for 1, 3, 5, 7."""
    lines = {key: " ".join(map(str, value.shape)) for key, value in state_dict.items()}
    for place in reversed(range(1 + max(key.count(".") for key in lines))):
        groups: dict[tuple[str, str], dict[int, str]] = {}
        for key, shape in lines.items():
            parts = key.split(".")
            if place < len(parts) and parts[place].isdigit():
                pattern = ".".join([*parts[:place], "{}", *parts[place + 1 :]])
                groups.setdefault((pattern, shape), {})[int(parts[place])] = key
        for (pattern, shape), members in groups.items():
            for run in filter(lambda run: len(run) > 1, _runs(sorted(members))):
                for number in run:
                    del lines[members[number]]
                step = run[1] - run[0]
                mark = f"{{{run[0]}:{run[-1]}{f':{step}' if step > 1 else ''}}}"
                lines[pattern.replace("{}", mark)] = shape
    return sorted(f"{key} {shape}".rstrip() for key, shape in lines.items())


def _runs(numbers: list[int]) -> list[list[int]]:
    """Sorted numbers, parted where their distance changes."""
    runs = [numbers[:1]]
    for number in numbers[1:]:
        if len(runs[-1]) == 1 or number - runs[-1][-1] == runs[-1][1] - runs[-1][0]:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _import_released(options) -> None:
    from goldens import authors

    if "instructany2pix" not in sys.modules:
        authors.on_path(options.instructany2pix)
        authors.package("instructany2pix", Path(options.instructany2pix) / "instructany2pix")
        authors.stand_in("torchaudio", "languagebind", "einops", "cv2", "insightface")
        sys.modules["instructany2pix.ddim.sdxl_pipeline"] = MagicMock()
        for name in ("image_vqvae", "audio_vqvae"):  # tokenizers of pictures and sounds that vq-npz does not use
            sys.modules[f"instructany2pix.llm.model.vae.{name}"] = _vae_module()


def _vae_module():
    from importlib import import_module

    module = MagicMock()

    def instantiate_from_config(config):
        room, _, name = config["target"].rpartition(".")
        return getattr(import_module(room), name)(**config["params"])

    module.instantiate_from_config = instantiate_from_config
    return module


MAKERS = {"imagebind": imagebind, "llm": llm, "prior": prior, "unclip_unet": unclip_unet, "two_view": two_view}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imagebind", type=Path, required=True, help="checkout of the authors' repository")
    parser.add_argument("--instructany2pix", type=Path, required=True, help="checkout of the authors' repository")
    parser.add_argument("which", nargs="*", default=list(MAKERS), help=f"of {', '.join(MAKERS)}; all by default")
    options = parser.parse_args(arguments)
    LAYOUTS.mkdir(parents=True, exist_ok=True)
    for name in options.which:
        with torch.device("meta"):
            state_dict = MAKERS[name](options)
        (LAYOUTS / f"{name}.txt").write_text("\n".join([f"# {len(state_dict)} keys", *compress(state_dict)]) + "\n")


if __name__ == "__main__":
    main()
