"""Writes benchmarks/results/memory.md: what the published networks weigh, and what the whole chain needs on a small
GPU.

`python tools/memory_table.py`, with `--check` to compare instead of write. Another ComfyUI than the page's asks for
other room: with one, `--check` only holds that every stage fits its card. Nothing is estimated where it can be run: the
networks are built at their published sizes on a pretended card (tools/pretend_card.py), loaded by ComfyUI's own model
manager, and run once, stage after stage, with every byte on the card counted. No weights are needed, no GPU, and little
memory.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import workspace

ROOT = workspace.ROOT
TARGET = ROOT / "benchmarks" / "results" / "memory.md"
GIB = 2**30
CARD_BYTES = 8 * GIB
STARVED_BYTES = 2.5 * GIB  # hardly room for a weight: every network but the smallest lies mostly beside the card
TAKEN = 0.75 * GIB  # by the driver's context and the screen, before ComfyUI has anything
PROMPT_TOKENS = 156  # the released template with a long instruction
ANSWER_TOKENS = 100  # the released limit of an answer
SIDE = 1024  # pixels
TEXT_TOKENS = 77
PAGE = """# Memory at full size

Written by `python tools/memory_table.py`; a test checks that it is up to date. **The figures are counted, not run on a GPU.** The
networks are built at their published sizes on a simulated card (torch's FakeTensors: real devices, dtypes and shapes, no values),
loaded by ComfyUI's own model manager, and every stage of an edit is traced once, with every byte on the card counted.
`tests/nodes/test_full_size_nodes.py` compares the count for a real forward pass with torch's profiler. The count leaves out the
workspace of the GPU's own kernels and the allocator's fragmentation.

## Weights, GB (10^9 bytes)

{weights}

This pack's loaders offer fp8: the blocks in 8 bits with one scale per row, the rest in half precision.

## One edit on a card of {card} GB, GiB

The driver and the screen take {taken} GiB of the card. ComfyUI keeps another 1.2 GiB free for a run, or what the stage requests if
that is more, and loads as many weights as fit into the rest; the others are moved to the card layer by layer when they are used.
Half precision.

{normal}

The highest peak is {highest:.2f} GiB: **by this count the whole chain fits a card of {card} GB; it has not been run on one**. Part of
the LLM stays in the computer's memory, in fp8 hardly any; so does part of the UNet, because ComfyUI requests far more free memory
than it needs with fused attention.

## The same on a card of {starved_card} GB

Almost nothing fits, so the weights of every large network are moved to the card layer by layer. That is slow, but by this count
every stage still fits: none needs all its weights on the card.

{starved}
"""


def start_comfyui() -> None:
    """Make ComfyUI importable, with the attention that a GPU has."""
    sys.path[:0] = [str(workspace.comfyui_path())]
    from comfy.cli_args import args

    args.cpu, args.use_pytorch_cross_attention = True, True
    logging.disable(logging.INFO)


@dataclass(frozen=True)
class Stage:
    """One stage on the card, bytes. ``resident``: its own weights, beside those of ``others``. ``estimate``: what the
    model manager was asked to keep free for the run; ``used``: what the run took, weights brought in layer by layer
    included."""

    name: str
    weights: int
    resident: int
    others: int
    estimate: int
    used: int
    peak: int


def networks() -> dict[str, Any]:
    """Name -> a function that builds the network at its published size, empty. Ours from Fp8Layers."""
    from any2pix.models import adapter, imagebind, mm_llm, prior, two_view
    from any2pix.nodes.host.precision import Fp8Layers as operations

    return {
        "ImageBind (vision, audio, text)": lambda: imagebind.ImageBind(imagebind.ImageBindDims.published(), operations),
        "LLM (Vicuna 7B)": lambda: mm_llm.MultimodalLLM(mm_llm.MMLLMDims.published(), operations),
        "Prior, with CLIP ViT-H's text encoder": lambda: prior.RefinementPrior(prior.PriorDims.published(), operations),
        "Two-view adapter": lambda: two_view.TwoViewAdapter(two_view.TwoViewDims.published(), operations),
        "unCLIP projector": lambda: adapter.UnclipProjector(adapter.UnclipDims.published(), operations),
    }


def stock_networks() -> dict[str, Any]:
    """What ComfyUI itself loads in the chain."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    large = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    giant = CLIPTextConfig(
        hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, projection_dim=1280
    )
    return {
        "SDXL UNet": sdxl_unet,
        "SDXL VAE": sdxl_vae,
        "CLIP-L": lambda: CLIPTextModel(large),
        "CLIP-G": lambda: CLIPTextModelWithProjection(giant),
    }


def sdxl_unet() -> Any:
    from any2pix.models.diffusion import DiffusionDims
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**DiffusionDims().unet_config())


def sdxl_vae() -> Any:
    from comfy.ldm.models.autoencoder import AutoencoderKL

    widths = {"ch": 128, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": []}
    shape = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "dropout": 0.0}
    return AutoencoderKL(ddconfig={**shape, **widths}, embed_dim=4)


def weight_bytes(module: Any, precision: str) -> int:
    """Bytes of a module's parameters in a precision; fp8 as the loaders keep it (nodes/host/precision.py)."""
    from any2pix.nodes.host.precision import DTYPES, FP8, quantize

    if precision == FP8:
        quantize(module.half())
        return sum(p.numel() * p.element_size() for p in module.parameters())
    return sum(p.numel() for p in module.parameters()) * DTYPES[precision].itemsize


def weight_rows() -> list[tuple[str, float, dict[str, float | None]]]:
    """(name, million parameters, GB by precision) of every network; fp8 None where the pack does not choose."""
    import torch

    rows = []
    with torch.device("meta"), torch.inference_mode():  # no more than shapes and types is asked of them
        ours = networks()
        for name, build in {**ours, **stock_networks()}.items():
            module = build()
            sizes = {kept: weight_bytes(module, kept) / 1e9 for kept in ("fp32", "fp16")}
            parameters = sum(p.numel() for p in module.parameters()) / 1e6
            sizes["fp8_e4m3fn"] = weight_bytes(module, "fp8_e4m3fn") / 1e9 if name in ours else None
            rows.append((name, parameters, sizes))
    return rows


class Chain:
    """The stages of an edit in their order on one card, each network staying until another needs its room."""

    def __init__(self, card: Any, llm_precision: str) -> None:
        self.card, self.llm_precision = card, llm_precision
        self.estimates: list[int] = []
        self.loaded: list[Any] = []  # the loaders' outputs, which ComfyUI keeps

    def network(self, name: str, precision: str = "fp16") -> Any:
        from any2pix.nodes.host.networks import wrap_network
        from any2pix.nodes.host.precision import FP8, quantize

        module = networks()[name]().half()
        if precision == FP8:
            quantize(module)
        self.loaded.append(wrap_network(module))
        return self.loaded[-1]

    def measure(self, name: str, patcher: Any, load: Callable[[], Any], run: Callable[[Any], Any]) -> Stage:
        """One stage: what is on the card when it has run, and the highest point on the way."""
        counter = self.card.counter
        loaded = load()
        counter.reset_peak()
        run(loaded)
        weights, resident, after = patcher.model_size(), patcher.loaded_size(), counter.used
        return Stage(name, weights, resident, after - resident, self.estimates[-1], counter.peak - after, counter.peak)

    def stages(self) -> Iterator[Stage]:
        """An edit, in the order it is made."""
        yield from self.embeddings()
        yield self.answer()
        yield self.refinement()
        yield from self.painting()

    def embeddings(self) -> Iterator[Stage]:
        import torch
        from any2pix.nodes.host.networks import transformer_activations
        from any2pix.stages.preprocess import CLIPS
        from pretend_card import CARD

        network = self.network("ImageBind (vision, audio, text)")
        dims = network.module.dims
        tokens = {
            "image": 1 + dims.image_patches,
            "audio": CLIPS * (1 + dims.audio_patches),
            "text": dims.text_context,
        }
        inputs = {
            "image": torch.zeros(1, 3, dims.image_size, dims.image_size, device=CARD),
            "audio": torch.zeros(1, CLIPS, 1, dims.mel_bins, dims.mel_frames, device=CARD),
            "text": torch.zeros(1, dims.text_context, dtype=torch.long, device=CARD),
        }
        widths = {"image": dims.vision_width, "audio": dims.audio_width, "text": dims.text_width}
        for kind, given in inputs.items():
            yield self.measure(
                f"ImageBind, one {kind}",
                network.patcher,
                partial(network.load, transformer_activations(tokens[kind], widths[kind])),
                lambda module, kind=kind, given=given: getattr(module, f"encode_{kind}")(given),
            )

    def answer(self) -> Stage:
        """One pass over prompt and answer together: more than the prompt's pass, and more than any single token's."""
        import torch
        from any2pix.nodes.host.networks import transformer_activations
        from pretend_card import CARD
        from transformers import DynamicCache

        network = self.network("LLM (Vicuna 7B)", self.llm_precision)
        llama, tokens = network.module.dims.llama, PROMPT_TOKENS + ANSWER_TOKENS
        ids = torch.zeros(1, tokens, dtype=torch.long, device=CARD)
        return self.measure(
            f"LLM in {self.llm_precision}, {PROMPT_TOKENS} + {ANSWER_TOKENS} tokens with their key-value cache",
            network.patcher,
            lambda: network.load(transformer_activations(tokens, llama["hidden_size"], llama["num_hidden_layers"])),
            lambda module: module(ids, past_key_values=DynamicCache()),
        )

    def refinement(self) -> Stage:
        import torch
        from any2pix.nodes.host.networks import transformer_activations
        from any2pix.nodes.refine import GUIDED_ROWS
        from any2pix.nodes.refine import PROMPT_TOKENS as PRIOR_TOKENS
        from pretend_card import CARD

        network = self.network("Prior, with CLIP ViT-H's text encoder")
        dims = network.module.dims
        ids = torch.zeros(GUIDED_ROWS, TEXT_TOKENS, dtype=torch.long, device=CARD)
        row = torch.zeros(GUIDED_ROWS, device=CARD)
        return self.measure(
            "Prior, with and without its input",
            network.patcher,
            lambda: network.load(transformer_activations(GUIDED_ROWS * PRIOR_TOKENS, dims.width)),
            lambda module: module(
                torch.zeros(GUIDED_ROWS, dims.embed, device=CARD), row, ids, torch.ones_like(ids), row.long()
            ),
        )

    def painting(self) -> Iterator[Stage]:
        import comfy.model_management as management
        import torch
        from any2pix.models.diffusion import DiffusionDims
        from any2pix.nodes.host.sdxl import build_model
        from comfy.sd import VAE
        from pretend_card import CARD

        vae = VAE(sd=sdxl_vae().state_dict())
        self.loaded.append(vae)
        sizes = {"encode": vae.memory_used_encode((1, 3, SIDE, SIDE), vae.vae_dtype)}
        sizes["decode"] = vae.memory_used_decode((1, 4, SIDE // 8, SIDE // 8), vae.vae_dtype)

        def load_vae(way: str) -> Any:
            management.load_models_gpu([vae.patcher], memory_required=sizes[way])
            return vae

        picture, latent = torch.zeros(1, SIDE, SIDE, 3), torch.zeros(1, 4, SIDE // 8, SIDE // 8)
        yield self.measure(
            f"VAE, picture of {SIDE}", vae.patcher, partial(load_vae, "encode"), lambda vae: vae.encode(picture)
        )

        model = build_model(sdxl_unet().half().state_dict(), DiffusionDims().unet_config(), "SDXL")
        adapter = self.network("Two-view adapter")
        rows = 2  # positive and negative
        shape = (rows, 4, SIDE // 8, SIDE // 8)
        required = int(model.memory_required(shape))

        def denoise(_: Any) -> None:
            tokens = adapter.module.tokens(torch.zeros(rows, 1024, device=CARD))
            kept = [layer(tokens.half()) for layer in adapter.module.layers]  # at their largest: all at once
            model.model.apply_model(
                torch.zeros(shape, device=CARD),
                torch.ones(rows, device=CARD),
                c_crossattn=torch.zeros(rows, TEXT_TOKENS, 2048, device=CARD),
                y=torch.zeros(rows, 2816, device=CARD),
            )
            del kept

        yield self.measure(
            f"UNet and two-view adapter, {SIDE}, two rows",
            model,
            lambda: management.load_models_gpu([model, adapter.patcher], memory_required=required),
            denoise,
        )
        yield self.measure(
            f"VAE, latent of {SIDE}", vae.patcher, partial(load_vae, "decode"), lambda vae: vae.decode(latent)
        )


def run_chain(card_bytes: float, llm_precision: str = "fp16", only_llm: bool = False) -> list[Stage]:
    """The stages on a card of ``card_bytes``, of which TAKEN is not ours."""
    import comfy.model_management as management
    import torch
    from pretend_card import PretendCard

    with PretendCard(int(card_bytes - TAKEN)) as card, torch.inference_mode():
        chain = Chain(card, llm_precision)
        load = management.load_models_gpu

        def noting(models: Any, memory_required: float = 0, **options: Any) -> None:
            chain.estimates.append(int(memory_required))
            load(models, memory_required=memory_required, **options)

        with mock.patch.object(management, "load_models_gpu", noting):
            return [chain.answer()] if only_llm else list(chain.stages())


def weights_table(rows: list[tuple[str, float, dict[str, float | None]]]) -> str:
    from any2pix.evaluation.rates import markdown_table

    shown = [
        (name, f"{parameters:.1f}", *("" if size is None else f"{size:.2f}" for size in sizes.values()))
        for name, parameters, sizes in rows
    ]
    return markdown_table(("network", "million parameters", "fp32", "fp16, bf16", "fp8_e4m3fn"), shown)


def stages_table(stages: list[Stage]) -> str:
    from any2pix.evaluation.rates import markdown_table

    head = (
        "stage",
        "weights",
        "of them on the card",
        "other networks on the card",
        "requested free",
        "used by the run",
        "peak",
    )
    columns = ("weights", "resident", "others", "estimate", "used", "peak")
    rows = [(stage.name, *(f"{getattr(stage, name) / GIB:.2f}" for name in columns)) for stage in stages]
    return markdown_table(head, rows)


def report() -> str:
    """The whole page; RuntimeError where a stage does not fit its card."""
    normal = [*run_chain(CARD_BYTES), *run_chain(CARD_BYTES, "fp8_e4m3fn", only_llm=True)]
    starved = run_chain(STARVED_BYTES)
    for size, stages in ((CARD_BYTES, normal), (STARVED_BYTES, starved)):
        too_large = [stage.name for stage in stages if stage.peak > size - TAKEN]
        if too_large:
            raise RuntimeError(
                f"These stages do not fit a card of {size / GIB} GiB: {too_large}\n{stages_table(stages)}"
            )
    return PAGE.format(
        weights=weights_table(weight_rows()),
        card=f"{CARD_BYTES / GIB:g}",
        taken=TAKEN / GIB,
        normal=stages_table(normal),
        highest=max(stage.peak for stage in normal) / GIB,
        starved_card=f"{STARVED_BYTES / GIB:g}",
        starved=stages_table(starved),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the committed page and write nothing")
    options = parser.parse_args()
    start_comfyui()
    page = report()
    if options.check and workspace.comfyui_path() != workspace.WORKSPACE / "ComfyUI":
        print("every stage fits its card; the page was written with another ComfyUI")
        return 0
    if options.check:
        same = TARGET.is_file() and TARGET.read_text() == page
        print("the page is up to date" if same else f"{TARGET.name} is out of date: run tools/memory_table.py")
        return 0 if same else 1
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(page)
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
