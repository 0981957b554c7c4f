"""Our autoencoder as a genuine ComfyUI VAE, so that stock VAE Encode, VAE Decode, their tiled forms and previews take
it."""

import comfy.model_management as management
import comfy.sd
import torch
from torch import Tensor, nn

from ...models.autoencoder import Autoencoder
from .patchers import new_patcher

# Bytes per pixel and per byte of dtype at the widest layer: input, output and intermediates of one residual block.
LIVE_MAPS = 6


class FirstStage(nn.Module):
    """comfy's interface to a VAE network: the encoder gives the latent itself, here the mean (no noise, so runs
    repeat)."""

    def __init__(self, autoencoder: Autoencoder):
        super().__init__()
        self.autoencoder = autoencoder

    def encode(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, 4, H/8, W/8)."""
        return self.autoencoder.encode(pixels)[0]

    def decode(self, latents: Tensor) -> Tensor:
        """(B, 4, h, w) -> (B, 3, 8h, 8w), about [-1, 1]."""
        return self.autoencoder.decode(latents)


class AutoencoderVAE(comfy.sd.VAE):
    """``disable_dynamic``: a plain ModelPatcher where the host would stream the weights."""

    def __init__(self, autoencoder: Autoencoder, disable_dynamic: bool = False):
        # The smallest VAE that comfy supports: it sets every attribute of this or a later version, then ours replace
        # them.
        super().__init__(sd={"pixel_space_vae": torch.tensor(1.0)}, dtype=torch.float32)
        dims = autoencoder.dims
        self.downscale_ratio = self.upscale_ratio = dims.downscale
        self.latent_channels = dims.latent
        self.output_channels = dims.channels
        widest = dims.widths[0] / dims.patch**2  # channels per pixel of the picture where the maps are largest
        self.memory_used_encode = lambda shape, dtype: (
            LIVE_MAPS * widest * shape[2] * shape[3] * management.dtype_size(dtype)
        )
        self.memory_used_decode = lambda shape, dtype: (
            LIVE_MAPS * widest * shape[2] * shape[3] * dims.downscale**2 * management.dtype_size(dtype)
        )
        self.vae_dtype = management.vae_dtype(self.device, [torch.float32])  # half precision would show in flat colours
        self.first_stage_model = FirstStage(autoencoder).eval().to(self.vae_dtype)
        self.disable_offload = False  # the smallest VAE's is True, since it has nothing to load in part
        self.patcher = new_patcher(
            self.first_stage_model, self.device, management.vae_offload_device(), disable_dynamic
        )
        self.size = None
        self.model_size()
