"""A node pack for tests of the real server: what Load Checkpoint gives, made of the miniature and of texts nobody has
learnt."""

import zlib

import torch

import nodes

TEXT_TOKENS = 77


class StandInClip:
    """A CLIP whose texts are random vectors, the same for the same words."""

    def __init__(self, context: int, pooled: int):
        self.context, self.pooled = context, pooled

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, text: str) -> list:
        generator = torch.Generator().manual_seed(zlib.crc32(text.encode()))
        words = torch.randn(1, TEXT_TOKENS, self.context, generator=generator)
        return [[words, {"pooled_output": torch.randn(1, self.pooled, generator=generator)}]]


class StandInCheckpoint:
    CATEGORY = "any2pix tests"
    FUNCTION = "load"
    RETURN_TYPES = ("MODEL", "CLIP", "VAE")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"ckpt_name": ("STRING", {})}}

    def load(self, ckpt_name):
        model, vae = nodes.NODE_CLASS_MAPPINGS["Any2PixLoadDiffusion"].execute(name="miniature").result
        (adapter,) = nodes.NODE_CLASS_MAPPINGS["Any2PixLoadAdapter"].execute(name="miniature", precision="auto").result
        # the miniature's, whose one token and pooled vector are as wide as the UNet reads them
        dims = adapter.module.dims
        return model, StandInClip(dims.context, dims.pooled), vae


NODE_CLASS_MAPPINGS = {"Any2PixTestCheckpoint": StandInCheckpoint}
