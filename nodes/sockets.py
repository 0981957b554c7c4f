"""The pack's own socket types and what travels through them."""

from dataclasses import dataclass

from comfy_api.latest import io
from torch import Tensor

from ..stages.types import References

CATEGORY = "any2pix"

ORIGINS = PREDICTION, REFERENCE, REFINED, MIX = ("prediction", "reference", "refined", "mix")

ImageBindSocket = io.Custom("IMAGEBIND")
LLMSocket = io.Custom("MM_LLM")
PriorSocket = io.Custom("MM_PRIOR")
AdapterSocket = io.Custom("MM_ADAPTER")
ReferencesSocket = io.Custom("MM_REFERENCES")
EmbeddingSocket = io.Custom("MM_EMBEDDING")
SubjectsSocket = io.Custom("MM_SUBJECTS")
AxesSocket = io.Custom("MM_AXES")


@dataclass(frozen=True)
class Axes:
    """What an MM_AXES socket carries: the names and numbers of a grid's columns (x) and rows (y); a number that was
    written without a point is an int, of any size."""

    x_name: str
    x_values: tuple[float, ...]
    y_name: str
    y_values: tuple[float, ...]

    @property
    def cells(self) -> int:
        return len(self.x_values) * len(self.y_values)


@dataclass(frozen=True)
class Embedding:
    """What an MM_EMBEDDING socket carries.

    ``vector``: (D,) on the CPU, or None for ``<base_null>``: the LLM chose no base picture, the edit is painted from
    noise.
    ``candidates``: for a base, the indices of the references that the instruction showed to the LLM; empty means all.
    ``chain``: for a base, all references that the LLM was given, which those indices count in; None if unknown.
    ``origin``: one of ORIGINS, empty in files of older versions. ``blank``: Base Retrieval found a sound or a text, and
    gave a grey picture beside it.
    """

    vector: Tensor | None
    candidates: tuple[int, ...] = ()
    chain: References | None = None
    origin: str = ""
    blank: bool = False

    @property
    def paints_from_noise(self) -> bool:
        """Whether, as a base, it stands for no picture that could be inverted."""
        return self.is_null or self.blank

    @property
    def is_null(self) -> bool:
        return self.vector is None

    def required(self, user: str) -> Tensor:
        """The vector, or an error in the name of the node that cannot do without one."""
        if self.vector is None:
            raise ValueError(
                f"{user} got <base_null>: the language model chose no base picture. Connect the LLM's edit output "
                "here, or name the picture in the instruction, for example: [image1] with snow."
            )
        return self.vector
