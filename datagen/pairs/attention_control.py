"""An attention processor that puts the attention maps of one caption's picture into another's (Prompt-to-Prompt).

It works on any diffusers UNet with `Attention` layers (SD 1.x, 2.x, SDXL). The rows of a pass are
(guidance side, candidate, caption): both sides of classifier-free guidance, N candidates, then source and edited.
Layers run in a fixed order and source and edited picture go through them together, so no map outlives its layer.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .alignment import Alignment

MAPS = ("cross", "self", "both")
SIDES = ("unconditional", "conditional")
Record = Callable[[str, bool, Tensor, Tensor], None]


@dataclass
class Control:
    """What the processors do in the pass at hand.

    `active` (N,) bool: the candidates whose maps are replaced now; None: nothing is, and the UNet's own processors run.
    `maps`: "cross" as in Prompt-to-Prompt, "self" as in InstructPix2Pix's published code, or "both".
    `record(layer, is_cross, source, injected)`, where given, sees every pair of maps (sides, N, heads, pixels, tokens).
    """

    alignment: Alignment
    candidates: int
    maps: str = "both"
    active: Tensor | None = None
    record: Record | None = field(default=None, repr=False)

    def __post_init__(self):
        if self.maps not in MAPS:
            raise ValueError(f'There are no attention maps "{self.maps}". Choose one of: {", ".join(MAPS)}.')

    def takes(self, is_cross: bool) -> bool:
        """Whether maps of this kind are replaced in this pass."""
        return (
            self.active is not None
            and bool(self.active.any())
            and self.maps in ("both", "cross" if is_cross else "self")
        )

    def inject(self, layer: str, probabilities: Tensor, heads: int, is_cross: bool) -> Tensor:
        """(rows * heads, pixels, tokens) -> the same, the edited rows of active candidates with the source's maps.

        Self-attention is replaced on both sides of the guidance, as in InstructPix2Pix's code. Cross-attention only on
        the conditional one: the unconditional side reads the same empty prompt for both pictures.
        """
        shape = probabilities.shape
        split = probabilities.view(len(SIDES), self.candidates, 2, heads, *shape[1:])
        source, own = split.unbind(2)
        active = self.active.to(own.device).view(1, -1, 1, 1, 1)
        if is_cross:
            conditional = torch.arange(len(SIDES), device=own.device).view(-1, 1, 1, 1, 1) == SIDES.index("conditional")
            edited = torch.where(active & conditional, self.alignment.inject(source, own), own)
        else:
            edited = torch.where(active, source, own)
        if self.record is not None:
            self.record(layer, is_cross, source, edited)
        return torch.stack([source, edited], 2).view(shape)


class ControlledAttention:
    """diffusers' attention processor with accessible maps; it calls `plain` where nothing is replaced."""

    def __init__(self, name: str, plain, control: Control):
        self.name, self.plain, self.control = name, plain, control

    def __call__(self, attn: nn.Module, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
                 attention_mask: Tensor | None = None, *args, **kwargs) -> Tensor:  # fmt: skip
        """Hidden states (rows, pixels, C), context (rows, tokens, D) or None for self-attention -> (rows, pixels,
        C)."""
        is_cross = encoder_hidden_states is not None
        if not self.control.takes(is_cross):
            return self.plain(attn, hidden_states, encoder_hidden_states, attention_mask, *args, **kwargs)
        if hidden_states.ndim != 3 or attn.group_norm is not None or attn.spatial_norm is not None:
            raise ValueError(
                f"{self.name} is not an attention layer of a transformer block; Prompt-to-Prompt cannot read its maps."
            )
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if is_cross and attn.norm_cross:
            context = attn.norm_encoder_hidden_states(context)
        mask = attn.prepare_attention_mask(attention_mask, context.shape[1], len(context))
        query, key, value = (
            attn.head_to_batch_dim(part) for part in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        probabilities = attn.get_attention_scores(query, key, mask)
        probabilities = self.control.inject(self.name, probabilities, attn.heads, is_cross)
        out = attn.to_out[1](attn.to_out[0](attn.batch_to_head_dim(probabilities @ value)))
        if attn.residual_connection:
            out = out + hidden_states
        return out / attn.rescale_output_factor


@contextmanager
def controlled(unet: nn.Module, control: Control) -> Iterator[None]:
    """The UNet with its attention under control; its own processors are back afterwards, whatever happens."""
    plain = dict(unet.attn_processors)
    unet.set_attn_processor({name: ControlledAttention(name, processor, control) for name, processor in plain.items()})
    try:
        yield
    finally:
        unet.set_attn_processor(plain)
