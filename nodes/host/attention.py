"""Tokens beside a text's in the cross attentions of a MODEL: the two-view adapter's image tokens, and their kind.

The tokens travel in the conditioning, so each row that ComfyUI samples (areas, guiders with three sides, batches split
by low memory) brings its own. The patch goes around whatever patch stands in a block when the UNet runs, so it does not
matter who patched the model before or after us. Three policies say how the keys and values of the tokens are used:

- "add": attention(q, text) + scale * attention(q, tokens), as IP-Adapter's (Ye et al., arXiv 2308.06721).
- "replace": they take the place of the text's first ones, as InstructBrush's (arXiv 2403.18660).
- "join": they follow the text's, under one softmax.

With "replace" and "join", ``scale`` leads from the text's own attention, 0, to the new one, 1.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, get_args

import torch
from comfy.conds import CONDConstant, CONDCrossAttn, CONDRegular
from comfy.ldm.modules.attention import SpatialTransformer, optimized_attention
from comfy.patcher_extension import WrappersMP
from torch import Tensor, nn

from .choices import require_choice
from .networks import Network

# ComfyUI's name of a cross attention: part of the UNet, number of the block, transformer in it
Block = tuple[str, int, int]
Policy = Literal["add", "replace", "join"]
POLICIES = get_args(Policy)
Attention = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], Tensor]  # (q, k, v, extra_options) -> (B, pixels, width)


@dataclass(frozen=True)
class View:
    """Tokens (B, T, C), a row of them for each row that is sampled, how strongly they are felt, and how."""

    tokens: Tensor
    scale: float
    policy: Policy = "add"

    def __post_init__(self) -> None:
        require_choice("policy of the attention", self.policy, POLICIES)


def cross_attentions(unet: nn.Module) -> list[tuple[Block, int]]:
    """Block and width of every cross attention of comfy's UNetModel, in the order of diffusers' attn_processors: down,
    up, middle."""
    middle = [] if unet.middle_block is None else [unet.middle_block]
    return [
        ((part, number, index), transformer.attn2.to_k.out_features)
        for part, blocks in (("input", unet.input_blocks), ("output", unet.output_blocks), ("middle", middle))
        for number, block in enumerate(blocks)
        for layer in block
        if isinstance(layer, SpatialTransformer)
        for index, transformer in enumerate(layer.transformer_blocks)
    ]


def attach(model: Any, adapter: Network) -> Any:
    """A clone of the MODEL that feels the adapter's tokens where its conditioning brings some; one that does already,
    itself.

    The weights stay in the adapter's ModelPatcher, which the model manager loads together with the model.
    """
    key = _adapter_key(adapter)
    if model.get_wrappers(WrappersMP.DIFFUSION_MODEL, key):
        return model
    model = model.clone()
    model.set_additional_models(key, [adapter.patcher])
    blocks = [block for block, _ in cross_attentions(model.get_model_object("diffusion_model"))]
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, key, ImageAttention(adapter, blocks))
    return model


def with_view(extras: dict[str, Any], adapter: Network, view: View) -> dict[str, Any]:
    """A conditioning entry's dict with one more view of this adapter; its tokens are (1, T, C).

    Added, rows with 4 and with 8 tokens still run together (CONDCrossAttn): ComfyUI repeats the 4, which attention does
    not notice. Beside a text under one softmax it would.
    """
    kind = CONDCrossAttn if view.policy == "add" else CONDRegular
    conds = extras.get("model_conds", {})
    tokens, how = next(names for names in _view_keys(_adapter_key(adapter)) if names[0] not in conds)
    conds = {**conds, tokens: kind(view.tokens), how: CONDConstant((view.scale, view.policy))}
    return {**extras, "model_conds": conds}


class ImageAttention:
    """A wrapper around a UNet's forward that adds the adapter's attention where the conditioning brings views of it."""

    def __init__(self, adapter: Network, blocks: list[Block]):
        self.adapter, self.blocks, self.key = adapter, blocks, _adapter_key(adapter)

    def __deepcopy__(self, memo: dict) -> "ImageAttention":
        return self  # nodes that deep-copy a model's options must not copy its weights

    def __call__(
        self,
        executor: Any,
        x: Tensor,
        timesteps: Tensor | None = None,
        context: Tensor | None = None,
        y: Tensor | None = None,
        control: dict[str, Any] | None = None,
        transformer_options: dict[str, Any] | None = None,
        **conds: Any,
    ) -> Tensor:
        views = list(self._take_views(conds))
        options = transformer_options or {}
        if views:
            options = self._with_image_attention(options, views)
        return executor(x, timesteps, context, y, control, options, **conds)

    def _take_views(self, conds: dict[str, Any]) -> Iterator[View]:
        for tokens, how in _view_keys(self.key):
            if tokens not in conds:
                return
            yield View(conds.pop(tokens), *conds.pop(how))

    def _with_image_attention(self, options: dict[str, Any], views: list[View]) -> dict[str, Any]:
        replace = options.get("patches_replace", {})
        there = replace.get("attn2", {})
        added = {}
        for block, layer in zip(self.blocks, self.adapter.module.layers, strict=True):
            before = there.get(block) or there.get(block[:2]) or plain_attention  # ComfyUI asks for them in this order
            added[block] = PatchedAttention(before, layer, views)
        return {**options, "patches_replace": {**replace, "attn2": {**there, **added}}}


@dataclass(frozen=True)
class PatchedAttention:
    """A cross attention's patch: what ``before`` gives, and the attention to the tokens."""

    before: Attention
    layer: Callable[[Tensor], tuple[Tensor, Tensor]]  # tokens -> keys, values (B, T, width) each
    views: list[View]

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]) -> Tensor:
        beside = [view for view in self.views if view.policy != "add"]
        attend = self.before
        for view in beside:
            attend = self._beside_text(attend, view)
        out = attend(q, k, v, extra_options)
        for view in self.views:
            if view.policy == "add":
                out = out + view.scale * plain_attention(q, *self._keys_and_values(q, view), extra_options)
        return out

    def _beside_text(self, attend: Attention, view: View) -> Attention:
        """``attend``, with the view's keys and values among the text's."""

        def attention(q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]) -> Tensor:
            own = self._keys_and_values(q, view)
            if view.policy == "replace":
                first = own[0].shape[1]
                keys, values = (torch.cat([new, text[:, first:]], dim=1) for new, text in zip(own, (k, v), strict=True))
            else:
                keys, values = (torch.cat([text, new], dim=1) for new, text in zip(own, (k, v), strict=True))
            out = attend(q, keys, values, extra_options)
            return out if view.scale == 1.0 else torch.lerp(attend(q, k, v, extra_options), out, view.scale)

        return attention

    def _keys_and_values(self, q: Tensor, view: View) -> tuple[Tensor, Tensor]:
        if len(view.tokens) != len(q):
            raise ValueError(
                f"Another pack runs this block with {len(q)} rows instead of the {len(view.tokens)} that are sampled, "
                "so the two-view adapter cannot assign its tokens to them. Remove that pack's node from the model, "
                "and use ComfyUI's own masked or area conditioning instead."
            )
        keys, values = self.layer(view.tokens.to(q.dtype))
        return keys, values


def plain_attention(q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]) -> Tensor:
    """ComfyUI's cross attention, with the precision and the backend it would take itself."""
    return optimized_attention(
        q,
        k,
        v,
        extra_options["n_heads"],
        attn_precision=extra_options.get("attn_precision"),
        transformer_options=extra_options,
    )


def _adapter_key(adapter: Network) -> str:
    return f"any2pix_{adapter.patcher.patches_uuid}"


def _view_keys(key: str) -> Iterator[tuple[str, str]]:
    """The names of the first, second, ... view's tokens, and of its scale and policy, in model_conds."""
    return ((f"{key}_tokens_{number}", f"{key}_how_{number}") for number in count())
