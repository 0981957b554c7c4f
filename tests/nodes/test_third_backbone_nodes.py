"""A third backbone, which only this file knows: 16 channels, another VAE scale, a linear schedule, and
a UNet that predicts v. It trains, inverts and paints through the same code as the others, in the pipeline and in the
nodes."""

from dataclasses import asdict

import comfy.latent_formats
import comfy.model_base
import comfy.supported_models
import pytest
import torch
from any2pix.loading.adapter import load_adapter
from any2pix.loading.diffusion import build_unet, load_unet
from any2pix.loading.files import write_network_file
from any2pix.models.adapter import UnclipDims, UnclipProjector
from any2pix.models.autoencoder import Autoencoder, AutoencoderDims
from any2pix.models.backbone import Backbone, Latent
from any2pix.models.diffusion import DiffusionDims, EmbeddingDiffusion
from any2pix.nodes import ApplyEmbedding, DDIMInvert, EmbeddingSampler, NoiseMix
from any2pix.nodes.host.networks import read_network
from any2pix.nodes.host.sdxl import build_model
from any2pix.nodes.host.vae import AutoencoderVAE
from any2pix.nodes.sockets import Embedding
from any2pix.stages.any2pix.options import EditOptions
from any2pix.stages.any2pix.pipeline import EditJob, Networks, PlannedEdit, invert_edits, paint_edits
from any2pix.stages.denoiser import GuidedDenoiser
from any2pix.stages.latents import decode_pictures, encode_pictures
from any2pix.stages.length import to_length
from any2pix.stages.sample import sample_euler, schedule
from any2pix.stages.types import EditPlan, Reference
from diffusers import UNet2DConditionModel
from harness.unet_eps import relative

THIRD = Backbone("third", Latent(16, 0.4, 8), betas=(2e-4, 1.5e-2), schedule="linear", predicts="v")
EMBED, SIDE, STEPS = 8, 32, 6
SEED = 5


class ThirdFamily(comfy.supported_models.SDXL):
    """The same to ComfyUI."""

    # betas that are even themselves; what comfy calls linear is diffusers' scaled_linear
    sampling_settings = {"beta_schedule": "sqrt_linear", "linear_start": THIRD.betas[0], "linear_end": THIRD.betas[1]}

    class latent_format(comfy.latent_formats.LatentFormat):
        latent_channels, scale_factor = THIRD.latent.channels, THIRD.latent.scale

    def inpaint_model(self):
        return False  # comfy takes more than 4 channels for those of an inpainting model

    def model_type(self, state_dict, prefix=""):
        return comfy.model_base.ModelType.V_PREDICTION


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    network = Autoencoder(AutoencoderDims(widths=(32, 32), blocks=1, patch=4, latent=16, scale=THIRD.latent.scale))
    assert network.latent == THIRD.latent
    return network.eval()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, vae):
    """The folder of a UNet and an adapter that learned to paint a picture, and the losses on the way."""
    torch.manual_seed(1)
    dims = DiffusionDims(
        widths=(32,), transformers=(1,), resnets=1, head_width=16, context=24, pooled=16, latent=16, sample_size=4
    )
    adapter = UnclipDims(embed=EMBED, hidden=16, context=24, pooled=16, pooled_in=8)
    network = EmbeddingDiffusion(UNet2DConditionModel(**dims.unet_config()), UnclipProjector(adapter), THIRD)
    latents = encode_pictures(vae, torch.full((1, SIDE, SIDE, 3), 0.8)).expand(8, -1, -1, -1)
    embeddings = 20 * torch.eye(EMBED)[:1].expand(8, -1)
    optimizer = torch.optim.Adam(network.parameters(), lr=4e-3)
    losses = []
    for _ in range(60):
        noise, timesteps = torch.randn_like(latents), torch.randint(THIRD.timesteps, (len(latents),))
        loss = network.training_loss(latents, embeddings, noise, timesteps)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    folder = tmp_path_factory.mktemp("third")
    write_network_file(folder / "unet.safetensors", "unet", network.unet.state_dict(), dims.unet_config())
    write_network_file(folder / "adapter.safetensors", "adapter", network.projector.state_dict(), asdict(adapter))
    return folder, losses


@pytest.fixture(scope="module")
def diffusion(trained):
    """Its loader outside ComfyUI."""
    folder = trained[0]
    unet = build_unet(*load_unet(folder / "unet.safetensors"))
    return EmbeddingDiffusion(unet, load_adapter(folder / "adapter.safetensors"), THIRD).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model(host, trained):
    """Its loader in ComfyUI: MODEL and MM_ADAPTER."""
    folder = trained[0]
    unet = build_model(*load_unet(folder / "unet.safetensors"), "third", torch.float32, family=ThirdFamily)
    return unet, read_network(load_adapter, folder / "adapter.safetensors", "fp32")


@pytest.fixture
def edit():
    """A picture of noise, which is not square, with an embedding of its own, to be painted with another."""
    generator = torch.Generator().manual_seed(3)
    picture = torch.rand(SIDE, SIDE + 8, 3, generator=generator) * 0.3 + 0.1
    reference = Reference(torch.eye(EMBED)[0], "image", picture)
    plan = EditPlan(edit=torch.eye(EMBED)[1], base=reference.embedding, caption="")
    return PlannedEdit(EditJob("", references=(reference,), seed=SEED), (reference,), plan, 0)


def test_it_learns(trained):
    losses = trained[1]
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])


def test_a_network_that_is_right_has_no_loss_and_paints_its_picture():
    """v of a known picture, worked out here: Salimans and Ho, arXiv 2202.00512, eq. 10 and 11."""
    torch.manual_seed(2)
    picture = torch.randn(1, *THIRD.latent.shape(SIDE, SIDE))

    class Right(EmbeddingDiffusion):
        backbone = THIRD

        def __init__(self):
            torch.nn.Module.__init__(self)
            self.register_buffer("alphas", THIRD.alphas().float())

        def condition(self, embedding):
            return embedding

        def predict(self, latents, timesteps, conditioning):
            alpha = self.alphas[timesteps].view(-1, 1, 1, 1)
            noise = (latents - alpha.sqrt() * picture) / (1 - alpha).sqrt()
            return alpha.sqrt() * noise - (1 - alpha).sqrt() * picture

    network, noise = Right(), torch.randn(4, *picture.shape[1:])
    timesteps = torch.tensor([50, 300, 700, 999])
    assert (
        float(network.training_loss(picture.expand_as(noise), torch.zeros(4, EMBED), noise, timesteps)["loss"]) < 1e-8
    )
    sigmas = schedule("normal", 8, THIRD)
    start = noise[:1] * (1 + sigmas[0] ** 2) ** 0.5
    assert relative(sample_euler(GuidedDenoiser(network, torch.zeros(1, EMBED)), start, sigmas), picture) < 1e-3


@pytest.mark.parametrize("start", [0, 2])
def test_the_pipeline_inverts_it(vae, diffusion, edit, start):
    """At alpha 1 and guidance 1, inverted and painted with its own embedding, the picture comes back."""
    networks = Networks(None, None, diffusion, vae)
    options = EditOptions(cfg=1.0, steps=STEPS, iterations=30, tolerance=1e-6, start_at_step=start)
    (inverted,) = invert_edits(networks, [edit], options)
    (clean,) = encode_pictures(vae, edit.base.image[None])
    own = to_length(edit.base.embedding, options.norm)
    (painted,) = paint_edits(networks, [edit], [own], [inverted], options)
    assert clean.shape == THIRD.latent.shape(SIDE, SIDE + 8) == inverted.start.shape
    expected = decode_pictures(vae, encode_pictures(vae, edit.base.image[None]))[0]
    assert (painted - expected).abs().max() < 2e-3


@pytest.mark.parametrize("start", [0, 2])
def test_nodes_and_pipeline_paint_the_same(run, vae, diffusion, model, edit, start):
    """Encode, invert, mix noise, sample, decode; on stock VAE nodes and ours."""
    from nodes import VAEDecode, VAEEncode

    unet, adapter = model
    options = EditOptions(
        alpha=0.7, cfg=2.0, steps=STEPS, iterations=8, tolerance=0.0, start_at_step=start, refined_weight=0.0
    )
    networks = Networks(None, None, diffusion, vae)
    own, wanted = (to_length(torch.eye(EMBED)[row], options.norm) for row in (0, 1))
    (expected,) = paint_edits(networks, [edit], [wanted], invert_edits(networks, [edit], options), options)

    stock = AutoencoderVAE(vae)
    with torch.inference_mode():
        latent = VAEEncode().encode(stock, edit.base.image[None])[0]
    _, positive, _ = run(
        ApplyEmbedding, model=unet, adapter=adapter, embedding=Embedding(own), scale=1.0, start_percent=0.0,
        end_percent=1.0,
    )  # fmt: skip
    widgets = {"steps": STEPS, "scheduler": "normal"}
    inverted = run(
        DDIMInvert, model=unet, conditioning=positive, latent=latent, iterations=8, tolerance=0.0,
        start_at_step=start, **widgets,
    )[0]  # fmt: skip
    mixed = run(NoiseMix, latent=inverted, seed=SEED, alpha=0.7, mode="paper")[0]
    painted = run(
        EmbeddingSampler, model=unet, adapter=adapter, embedding=Embedding(wanted), latent=mixed, seed=SEED, cfg=2.0,
        sampler_name="euler", **widgets,
    )[0]  # fmt: skip
    with torch.inference_mode():
        picture = VAEDecode().decode(stock, painted)[0][0]
    assert (picture - expected).abs().max() <= 1 / 255
