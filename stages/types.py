"""What the stages hand to one another. Nothing here computes."""

from dataclasses import dataclass

from torch import Tensor

MODALITIES = ("image", "audio", "text")


@dataclass(frozen=True)
class Reference:
    """One thing the artist connected.

    ``embedding``: (D,), ImageBind's raw output for its modality (norm 1 for images, about 20 for sounds, the text scale
    for texts); whoever uses it normalises for itself. ``image``: (H, W, 3) in [0, 1] for an image, else None.
    ``origin``: the network that made the embedding, for people to read; empty where nobody said.
    """

    embedding: Tensor
    modality: str
    image: Tensor | None = None
    label: str = ""
    origin: str = ""

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise ValueError(f"A reference must be one of {', '.join(MODALITIES)}, not {self.modality!r}.")
        if self.embedding.ndim != 1:
            raise ValueError(f"A reference holds one embedding of shape (D,), not {tuple(self.embedding.shape)}.")


References = tuple[Reference, ...]


@dataclass(frozen=True)
class Subject:
    """A subject the answer lists as an addition: its name, and H (D,) at its ``<video>``."""

    name: str
    embedding: Tensor


@dataclass(frozen=True)
class EditPlan:
    """What the instruction LLM made of an instruction.

    ``edit``: H_gen (D,). ``base``: H_base (D,), or None where the answer says ``<base_null>`` (paint from noise).
    ``caption``: the result, in words. ``answer``: the whole answer as decoded, for people to read.
    ``mentioned``: indices of the references the instruction showed to the LLM; base retrieval looks among these.
    ``notes``: what of the instruction was read in another way than it is written, a sentence each.
    """

    edit: Tensor
    base: Tensor | None
    caption: str
    subjects: tuple[Subject, ...] = ()
    answer: str = ""
    mentioned: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
