"""The graph that an artist runs and the pipeline that evaluation and benchmarks run give one picture for one seed."""

import wave
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from any2pix.evaluation.checkpoint import load_networks, load_pix2pix
from any2pix.loading.adapter import load_adapter
from any2pix.loading.diffusion import build_unet, load_unet
from any2pix.loading.kinds import KINDS
from any2pix.miniature import manifest
from any2pix.models.two_view_diffusion import TwoViewDiffusion
from any2pix.stages.any2pix import pipeline
from any2pix.stages.any2pix.options import EditOptions
from any2pix.stages.any2pix.pipeline import (
    EditJob,
    PlannedEdit,
    edit_pictures,
    invert_edits,
    mix_edits,
    paint_edits,
)
from any2pix.stages.any2pix.refine import SOURCE
from any2pix.stages.latents import decode_pictures, draw_noise, encode_pictures
from any2pix.stages.pix2pix.pipeline import TextEditOptions, edit_by_text
from any2pix.stages.sources import Source, encode_sources
from any2pix.stages.types import EditPlan
from comfyui_client.graphs import the_node
from harness.adapter_graph import TWO_VIEW_FILE
from harness.graphs import with_inputs
from harness.published_graph import with_stand_ins
from PIL import Image
from workspace import ROOT

# One level of the 256 of a saved picture. It is not bit for bit the same: ComfyUI's own UNet and VAE add up in another
# order than those of diffusers and of this pack.
LEVEL = 1.01 / 255
STEPS = 8
INPUTS = ROOT / "workflows" / "inputs"
CHANGES = {
    "as it is": {},
    "noise mixed in, as released": {"Any2PixNoiseMix": {"alpha": 0.4, "mode": "polar", "seed": 5}},
    "released formula": {"Any2PixMixEmbeddings": {"formula": "released", "base_weight": 0.3}},
    "paper's formula": {"Any2PixMixEmbeddings": {"formula": "paper", "base_weight": 0.3}},
    "inverted in part": {"Any2PixDDIMInvert": {"start_at_step": 3}, "Any2PixNoiseMix": {"alpha": 0.6}},
    "exact inversion": {"Any2PixDDIMInvert": {"method": "O-BELM"}, "Any2PixSampler": {"cfg": 2.0}},
    "exact inversion, in part, noise mixed in": {
        "Any2PixDDIMInvert": {"method": "O-BELM", "start_at_step": 2},
        "Any2PixNoiseMix": {"alpha": 0.6},
    },
    "plain inversion, karras": {
        "Any2PixDDIMInvert": {"iterations": 1, "scheduler": "karras"},
        "Any2PixSampler": {"scheduler": "karras"},
    },
}


@pytest.fixture(scope="module")
def networks():
    return load_networks()


@pytest.fixture
def workflow(client, example):
    """(name, changes: class type -> inputs) -> (the graph that ran, its saved pictures)."""

    def run(name: str, changes: dict | None = None):
        graph = example(name)
        few = {kind: {"steps": STEPS} for kind in ("Any2PixDDIMInvert", "Any2PixSampler", "BasicScheduler")}
        present = {body["class_type"] for body in graph.values()}
        for class_type, inputs in [*few.items(), *(changes or {}).items()]:
            if class_type in present:
                graph = with_inputs(graph, the_node(graph, class_type), **inputs)
        return graph, client.pictures(client.run(graph))

    return run


def widgets(graph: dict, class_type: str) -> dict:
    return graph[the_node(graph, class_type)]["inputs"]


def options_of(graph: dict) -> EditOptions:
    """The widgets of the graph under the names of the pipeline."""
    prior, mix, noise = (widgets(graph, f"Any2Pix{name}") for name in ("Refine", "MixEmbeddings", "NoiseMix"))
    inversion, sampler = (widgets(graph, f"Any2Pix{name}") for name in ("DDIMInvert", "Sampler"))
    return EditOptions(
        **{name: noise[name] for name in ("alpha", "mode")},
        **{name: mix[name] for name in ("edit_weight", "refined_weight", "base_weight", "norm", "formula")},
        **{name: inversion[name] for name in ("iterations", "tolerance", "start_at_step", "steps", "scheduler")},
        inversion_method=inversion["method"],
        inversion_cfg=inversion["cfg"],
        cfg=sampler["cfg"],
        score=prior["aesthetic_score"],
        prior_guidance=prior["guidance"],
    )


def picture_of(graph: dict) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The picture to edit (H, W, 3), and the mask in it (H, W) as Load Image reads it; None where it has no alpha."""
    image = Image.open(INPUTS / widgets(graph, "LoadImage")["image"])
    pixels = torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255)
    if "A" not in image.getbands():
        return pixels, None
    return pixels, 1 - torch.from_numpy(np.asarray(image.getchannel("A"), dtype=np.float32) / 255)


def sound_of(graph: dict) -> Source:
    with wave.open(str(INPUTS / widgets(graph, "LoadAudio")["audio"])) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, file.getnchannels())
        return Source("audio", (torch.from_numpy(samples.T.astype(np.float32) / 32768), file.getframerate()))


def assert_one_picture(painted: torch.Tensor, saved: np.ndarray) -> None:
    levels = np.floor(255 * painted.numpy())  # as Save Image cuts them
    np.testing.assert_allclose(levels / 255, saved, rtol=0, atol=LEVEL)


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_an_edit_with_a_sound(workflow, networks, changes):
    graph, (saved,) = workflow("edit_with_sound", changes)
    picture, _ = picture_of(graph)
    job = EditJob(
        widgets(graph, "Any2PixInstruct")["instruction"],
        (Source("image", picture), sound_of(graph)),
        seed=widgets(graph, "Any2PixNoiseMix")["seed"],
    )
    (found,) = edit_pictures(networks, [job], options_of(graph))
    assert_one_picture(found.image, saved)


@pytest.mark.parametrize(("alpha", "scheduler"), [(1.0, "normal"), (0.5, "normal"), (1.0, "ddim_uniform")])
def test_an_edit_under_a_mask(workflow, networks, alpha, scheduler):
    """ddim_uniform begins below the model's highest noise level, where ComfyUI scales noise in another way."""
    levels = {kind: {"scheduler": scheduler} for kind in ("Any2PixDDIMInvert", "Any2PixSampler")}
    graph, (saved,) = workflow("masked_edit", {"Any2PixNoiseMix": {"alpha": alpha}, **levels})
    picture, mask = picture_of(graph)
    instruction = widgets(graph, "Any2PixInstruct")["instruction"]
    job = EditJob(instruction, (Source("image", picture), sound_of(graph)), mask=mask)
    (found,) = edit_pictures(networks, [job], options_of(graph))
    beneath = decode_pictures(networks.vae, encode_pictures(networks.vae, picture[None]))[0]
    inside = mask[..., None]
    assert_one_picture(found.image * inside + beneath * (1 - inside), saved)


def with_edit_mask(graph: dict, strength: float) -> dict:
    """The graph with Edit Mask between Latent Noise Mix and the sampler."""
    source, sampler, mix = (the_node(graph, f"Any2Pix{name}") for name in ("ApplyEmbedding", "Sampler", "NoiseMix"))
    said, inputs = graph[source]["inputs"], graph[sampler]["inputs"]
    graph = graph | {
        "edit": {"class_type": "Any2PixApplyEmbedding", "inputs": {**said, "embedding": inputs["embedding"]}},
        "find": {
            "class_type": "Any2PixEditMask",
            "inputs": {
                "model": [source, 0],
                "source": [source, 1],
                "edit": ["edit", 1],
                "latent": [the_node(graph, "VAEEncode"), 0],
                "strength": strength,
                "softness": EditOptions.mask_softness,
                "seed": 0,
            },
        },
        "masked": {"class_type": "SetLatentNoiseMask", "inputs": {"samples": [mix, 0], "mask": ["find", 0]}},
    }
    return with_inputs(graph, sampler, latent=["masked", 0])


@pytest.mark.parametrize("strength", [0.6, EditOptions.mask_strength])
def test_an_edit_under_the_mask_that_it_finds(client, example, networks, strength):
    graph = with_edit_mask(example("edit_with_sound"), strength)
    for kind in ("Any2PixDDIMInvert", "Any2PixSampler"):
        graph = with_inputs(graph, the_node(graph, kind), steps=STEPS)
    (saved,) = client.pictures(client.run(graph))
    picture, _ = picture_of(graph)
    job = EditJob(widgets(graph, "Any2PixInstruct")["instruction"], (Source("image", picture), sound_of(graph)))
    masks = []

    def hook(name, step):
        result = step()
        if name == "find mask":
            masks.extend(edit.job.mask for edit in result)
        return result

    options = replace(options_of(graph), find_mask=True, mask_strength=strength)
    (found,) = edit_pictures(networks, [job], options, hook)
    assert 0.02 < masks[0].mean() < 0.9, "a part of the picture is edited"
    assert_one_picture(found.image, saved)


def test_a_sound_painted(workflow, networks):
    """Four pictures of one seed: the first has the noise that a picture alone has."""
    graph, saved = workflow("sound_to_picture")
    prior, sampler = widgets(graph, "Any2PixRefine"), widgets(graph, "Any2PixSampler")
    options = EditOptions(
        edit_weight=0.0,
        refined_weight=1.0,
        prior_source=prior["source"],
        prior_guidance=prior["guidance"],
        score=prior["aesthetic_score"],
        cfg=sampler["cfg"],
        steps=sampler["steps"],
        scheduler=sampler["scheduler"],
    )
    assert options.prior_source != SOURCE
    references = encode_sources(networks.imagebind, [sound_of(graph)])
    plan = EditPlan(edit=references[0].embedding, base=None, caption="")
    edits = [PlannedEdit(EditJob("", references=references, seed=sampler["seed"]), references, plan, None)]
    mixed, inverted = mix_edits(networks, edits, options), invert_edits(networks, edits, options)
    assert inverted == [None] and len(saved) == 4
    assert_one_picture(paint_edits(networks, edits, mixed, inverted, options)[0], saved[0])


TEXT_TOKENS = 77


@pytest.fixture
def published(networks, server, two_view_file, monkeypatch):
    """The bundled networks with the two-view adapter of the server, and texts as the stand-in for CLIP reads them."""
    dims = networks.diffusion.projector.dims

    def read(texts):
        read = []
        for text in texts:
            generator = torch.Generator().manual_seed(zlib.crc32(text.encode()))
            shapes = (TEXT_TOKENS, dims.context), (dims.pooled,)
            read.append([torch.randn(shape, generator=generator) for shape in shapes])
        return tuple(torch.stack(parts) for parts in zip(*read, strict=True))

    monkeypatch.setattr(pipeline, "tokens_of", lambda _, texts: texts)
    adapter = load_adapter(server.base / "models" / KINDS["two_view"].folder / TWO_VIEW_FILE)
    unet = build_unet(*load_unet(manifest.FOLDER / manifest.UNET))
    diffusion = TwoViewDiffusion(unet.eval(), None, adapter)
    monkeypatch.setattr(diffusion, "read", read)
    return replace(networks, diffusion=diffusion)


@pytest.mark.parametrize("view", ["global", "both"])
def test_a_published_edit(client, example, published, view):
    """SDXL with texts and the two-view adapter, set as the release, on the miniature's networks."""
    graph = with_stand_ins(example("published_edit"))
    for class_type, inputs in {
        "Any2PixDDIMInvert": {"steps": STEPS},
        "Any2PixSampler": {"steps": STEPS, "view": view},
        "Any2PixInstruct": {"temperature": 0.0},
    }.items():
        graph = with_inputs(graph, the_node(graph, class_type), **inputs)
    (saved,) = client.pictures(client.run(graph))
    sampler, (picture, _) = widgets(graph, "Any2PixSampler"), picture_of(graph)
    options = replace(
        options_of(graph),
        adapter_scale=sampler["scale"],
        **{name: sampler[name] for name in ("view", "local_strength")},
    )
    job = EditJob(
        widgets(graph, "Any2PixInstruct")["instruction"],
        (Source("image", picture), sound_of(graph)),
        seed=widgets(graph, "Any2PixNoiseMix")["seed"],
    )
    (found,) = edit_pictures(published, [job], options)
    assert_one_picture(found.image, saved)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_an_edit_by_text(client, example, workflow, networks, masked):
    graph = example("edit_by_text")
    graph = with_inputs(graph, the_node(graph, "BasicScheduler"), steps=STEPS)
    guider = the_node(graph, "Any2PixInstructPix2PixGuider")
    picture, mask = picture_of(graph)
    if masked:
        mask = torch.zeros(picture.shape[:2])
        mask[:, picture.shape[1] // 2 :] = 1.0
        graph |= {
            "half": {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 64, "height": 128}},
            "none": {"class_type": "SolidMask", "inputs": {"value": 0.0, "width": 128, "height": 128}},
            "mask": {
                "class_type": "MaskComposite",
                "inputs": {"destination": ["none", 0], "source": ["half", 0], "x": 64, "y": 0, "operation": "add"},
            },
            "masked": {
                "class_type": "SetLatentNoiseMask",
                "inputs": {"samples": graph[guider]["inputs"]["image"], "mask": ["mask", 0]},
            },
        }
        graph = with_inputs(graph, guider, image=["masked", 0])
    (saved,) = client.pictures(client.run(graph))
    inputs = graph[guider]["inputs"]
    text = graph[inputs["positive"][0]]["inputs"]["text"]
    options = TextEditOptions(inputs["text_guidance"], inputs["image_guidance"], STEPS)
    shape = (1, *networks.vae.latent.shape(*picture.shape[:2]))
    noise = draw_noise(shape, widgets(graph, "RandomNoise")["noise_seed"])
    network = load_pix2pix(manifest.FOLDER)
    masks = None if mask is None else mask[None]
    found = edit_by_text(network, networks.vae, picture[None], [text], noise, options, masks)
    assert_one_picture(found[0], saved)


def test_an_edit_by_text_under_the_mask_that_it_finds(client, example, networks):
    graph = example("edit_by_text")
    graph = with_inputs(graph, the_node(graph, "BasicScheduler"), steps=STEPS)
    guider = the_node(graph, "Any2PixInstructPix2PixGuider")
    inputs = graph[guider]["inputs"]
    graph |= {
        "find": {
            "class_type": "Any2PixEditMask",
            "inputs": {
                "model": inputs["model"],
                "source": inputs["negative"],
                "edit": inputs["positive"],
                "latent": inputs["image"],
                "strength": TextEditOptions.mask_strength,
                "softness": TextEditOptions.mask_softness,
                "seed": 0,
            },
        },
        "masked": {"class_type": "SetLatentNoiseMask", "inputs": {"samples": inputs["image"], "mask": ["find", 0]}},
    }
    text = "put a frog in the place of the subject"
    graph = with_inputs(graph, inputs["positive"][0], text=text)
    graph = with_inputs(graph, guider, image=["masked", 0])
    (saved,) = client.pictures(client.run(graph))
    picture, _ = picture_of(graph)
    options = TextEditOptions(inputs["text_guidance"], inputs["image_guidance"], STEPS, find_mask=True)
    noise = draw_noise((1, *networks.vae.latent.shape(*picture.shape[:2])), widgets(graph, "RandomNoise")["noise_seed"])
    masks = []

    def hook(name, step):
        result = step()
        if name == "find mask":
            masks.append(result)
        return result

    network = load_pix2pix(manifest.FOLDER)
    found = edit_by_text(network, networks.vae, picture[None], [text], noise, options, hook=hook)
    assert 0.02 < masks[0].mean() < 0.9, "a part of the picture is edited"
    assert_one_picture(found[0], saved)
