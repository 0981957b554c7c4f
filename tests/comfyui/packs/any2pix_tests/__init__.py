"""A node pack for tests of the real server: seeded stand-ins for texts and embeddings, a model that says in what
batches it runs and can be made to split them, and another pack's image adapter in the protocol that the IPAdapter packs
share."""

import logging
from types import SimpleNamespace

import torch
from comfy.ldm.modules.attention import SpatialTransformer, optimized_attention
from comfy.patcher_extension import WrappersMP

logger = logging.getLogger(__name__)
MUCH = 2**60  # bytes, more than any computer has free


def seeded(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Node:
    CATEGORY = "any2pix tests"
    FUNCTION = "run"


class Text(Node):
    """What CLIP Text Encode would give for some text."""

    RETURN_TYPES = ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        sizes = {"tokens": 77, "context": 128, "pooled": 64}
        return {"required": {"seed": ("INT", {}), **{name: ("INT", {"default": size}) for name, size in sizes.items()}}}

    def run(self, seed, tokens, context, pooled):
        return ([[seeded(1, tokens, context, seed=seed), {"pooled_output": seeded(1, pooled, seed=seed + 1)}]],)


class Vector(Node):
    """An embedding that no network had to make."""

    RETURN_TYPES = ("MM_EMBEDDING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"seed": ("INT", {}), "size": ("INT", {"default": 64}), "norm": ("FLOAT", {"default": 8.0})}
        }

    def run(self, seed, size, norm):
        vector = norm * torch.nn.functional.normalize(seeded(size, seed=seed), dim=0)
        return (SimpleNamespace(vector=vector, is_null=False, candidates=()),)


class Batches(Node):
    """Logs "label: rows" for every run of the UNet; with ``split`` ComfyUI believes that no two rows fit into
    memory."""

    RETURN_TYPES = ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "label": ("STRING", {}), "split": ("BOOLEAN", {})}}

    def run(self, model, label, split):
        def note(executor, x, *args, **kwargs):
            logger.info("%s: %d", label, len(x))
            return executor(x, *args, **kwargs)

        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, label, note)
        if split:
            model.add_object_patch("memory_required", lambda *args, **kwargs: MUCH)
        return (model,)


class AttentionPatch:
    """One owner of a cross attention to whom others add: the object that the IPAdapter packs leave in attn2's replace
    patches."""

    def __init__(self, callback, **kwargs):
        self.added = [(callback, kwargs)]

    def add(self, callback, **kwargs):
        self.added.append((callback, kwargs))

    def __call__(self, q, k, v, extra):
        out = optimized_attention(q, k, v, extra["n_heads"])
        for callback, kwargs in self.added:
            out = out + callback(q, extra, **kwargs)
        return out


def image_attention(q, extra, tokens, weight):
    """tokens (2, T, C) of the positive and the negative side, told apart as those packs do: by cond_or_uncond."""
    sides = extra["cond_or_uncond"]
    rows = torch.cat([tokens[side].expand(len(q) // len(sides), -1, -1) for side in sides])
    to_keys, to_values = (seeded(tokens.shape[-1], q.shape[-1], seed=seed) for seed in (1, 2))
    return weight * optimized_attention(q, rows @ to_keys, rows @ to_values, extra["n_heads"])


class OtherAdapter(Node):
    """Another pack's IP-Adapter on every cross attention."""

    RETURN_TYPES = ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "seed": ("INT", {}), "weight": ("FLOAT", {"default": 0.5})}}

    def run(self, model, seed, weight):
        model = model.clone()
        tokens = seeded(2, 4, 32, seed=seed) / 32**0.5
        options = model.model_options["transformer_options"] = dict(model.model_options["transformer_options"])
        replace = options["patches_replace"] = dict(options.get("patches_replace", {}))
        patches = replace["attn2"] = dict(replace.get("attn2", {}))
        unet = model.model.diffusion_model
        for part, blocks in (
            ("input", unet.input_blocks),
            ("middle", [unet.middle_block]),
            ("output", unet.output_blocks),
        ):
            for number, block in enumerate(blocks):
                if any(isinstance(layer, SpatialTransformer) for layer in block):
                    key = (part, number, 0)
                    if key in patches:
                        patches[key].add(image_attention, tokens=tokens, weight=weight)
                    else:
                        patches[key] = AttentionPatch(image_attention, tokens=tokens, weight=weight)
        return (model,)


NODE_CLASS_MAPPINGS = {f"Any2PixTest{node.__name__}": node for node in (Text, Vector, Batches, OtherAdapter)}
