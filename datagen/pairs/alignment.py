"""Which word of the first caption an attention map of the second one is taken from (Hertz et al., arXiv 2208.01626)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import torch
from torch import Tensor


@dataclass(frozen=True)
class Alignment:
    """How maps over the first caption's L tokens become maps over the second one's.

    `mapper` (L, L): injected[:, n] = sum over w of map[:, w] * mapper[w, n].
    `share` (L,) in [0, 1]: how much of the injected map a token gets; the rest is its own.
    `weight` (L,): factor of a token's map, 1 where nothing is re-weighted (Hertz et al., sec. 3.2, "attention
    re-weighting").
    """

    mapper: Tensor
    share: Tensor
    weight: Tensor

    def inject(self, source: Tensor, own: Tensor) -> Tensor:
        """Attention of both captions (..., pixels, L) -> what the second one attends with."""
        mapper, share, weight = (part.to(own.device, own.dtype) for part in (self.mapper, self.share, self.weight))
        return (source @ mapper * share + own * (1 - share)) * weight


def choose_method(source: str, edited: str) -> str:
    """Word swap between captions of as many words, else refinement, as the authors of Prompt-to-Prompt use them."""
    return "swap" if len(source.split()) == len(edited.split()) else "refine"


def align(
    source: Sequence[int], edited: Sequence[int], length: int, method: str, weight: Tensor | None = None
) -> Alignment:
    """Token ids of both captions, start and end token included and padding not, of a text encoder of `length` tokens.

    What both captions say takes the first one's maps. "swap": so does a replaced word, its map divided among its new
    tokens. "refine": replaced and added words keep their own maps. Padding is aligned with padding.
    """
    if method not in ("swap", "refine"):
        raise ValueError(f'There is no alignment "{method}". Choose one of: swap, refine.')
    longest = max(len(source), len(edited))
    if longest > length:
        raise ValueError(f"A caption has {longest} tokens, the text encoder takes {length}. Shorten the caption.")
    mapper, share = torch.zeros(length, length), torch.zeros(length)
    blocks = SequenceMatcher(None, list(source), list(edited), autojunk=False).get_opcodes()
    for kind, first, last, start, end in blocks:
        if kind == "equal" or (kind == "replace" and method == "swap" and last - first == end - start):
            mapper[range(first, last), range(start, end)] = 1.0
            share[start:end] = 1.0
        elif kind == "replace" and method == "swap":
            mapper[first:last, start:end] = 1.0 / (end - start)
            share[start:end] = 1.0
    padding = range(longest, length)
    mapper[padding, padding] = 1.0
    share[longest:] = 1.0
    return Alignment(mapper, share, torch.ones(length) if weight is None else weight)


def token_weights(edited: Sequence[int], phrases: Mapping[tuple[int, ...], float], length: int) -> Tensor:
    """(L,) factors: those of each phrase (its token ids without start and end) wherever the edited caption has it, else
    1."""
    weight = torch.ones(length)
    for phrase, factor in phrases.items():
        starts = [
            i for i in range(len(edited) - len(phrase) + 1) if tuple(edited[i : i + len(phrase)]) == tuple(phrase)
        ]
        if not phrase or not starts:
            raise ValueError(
                "A phrase to re-weight does not occur in the edited caption. Take words from that caption."
            )
        for start in starts:
            weight[start : start + len(phrase)] = factor
    return weight
