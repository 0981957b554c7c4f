"""The settings of InstructAny2Pix's pipeline: those of the nodes, under the names of their widgets."""

from dataclasses import dataclass
from typing import Literal

from ...models.prior import MODALITIES
from ...models.two_view import RELEASED_LOCAL_STRENGTH, RELEASED_VIEW, VIEWS
from ..edit_mask import DEFAULT_SOFTNESS, DEFAULT_STRENGTH, MaskOptions
from ..invert import DEFAULT_ITERATIONS, DEFAULT_TOLERANCE, InversionOptions
from ..sample import check_schedule
from .mix import BASE_WEIGHT, EDIT_WEIGHT, MIX_FORMULAS, MIX_MODES, MIX_NORM, REFINED_WEIGHT, MixFormula, MixMode
from .refine import AESTHETIC_SCORE, SOURCE

NEGATIVES = ("null", "source")
INVERSIONS = ("source", "null")
FIXED_POINT, BELM = INVERSION_METHODS = ("fixed point", "O-BELM")
RELEASED_PROMPT = "best quality, high quality"  # the release puts no comma between it and the caption
RELEASED_NEGATIVE = "monochrome, lowres, bad anatomy, worst quality, low quality"
MINIATURE_GUIDANCE = 3.0  # of the prior; the published 10 overshoots at the miniature's size


@dataclass(frozen=True)
class EditOptions:
    """The defaults are the miniature's. ValueError, with the value and the choices, where one cannot be.

    - `alpha` 0..1: share of the source picture's noise (1 keeps the layout), mixed as `mode` says.
    - `edit_weight`, `refined_weight`, `base_weight`, `norm`, `formula`: the embedding mix.
    - `negative`: what the guidance `cfg` leads away from, "null" (the zeros of the unconditional model) or "source"
      (the source picture's embedding).
    - `inversion`: the embedding that the inversion runs with, "source" or "null"; `inversion_cfg` its guidance.
    - `inversion_method`: "fixed point" (`stages/invert.py`: `iterations`, `tolerance`), painted with Euler steps, or
      "O-BELM" (`stages/belm.py`), inverted and painted with its two-step rule.
    - `start_at_step`: the step of the `scheduler`'s `steps` at which the sampler begins and the inversion ends.
    - `adapter_scale`, `view`, `local_strength`, `prompt` (the caption follows it) and `negative_prompt`: of a two-view
      adapter, which paints beside a text.
    - `score` 1..10, `prior_guidance` and `prior_source` ("video" for what the LLM predicted): the refinement prior.
    - `temperature` 0: the LLM takes the likeliest token.
    - `find_mask`: paint only where the edit differs from the source (stages.edit_mask), with `mask_strength` 0..1 and
      `mask_softness` in pixels. A job's own mask limits it further.
    """

    alpha: float = 1.0
    mode: MixMode = "paper"
    edit_weight: float = EDIT_WEIGHT
    refined_weight: float = REFINED_WEIGHT
    base_weight: float = BASE_WEIGHT
    norm: float = MIX_NORM
    formula: MixFormula = "equal"
    steps: int = 25
    cfg: float = 3.0
    scheduler: str = "normal"
    start_at_step: int = 0
    inversion: Literal["source", "null"] = "source"
    inversion_cfg: float = 1.0
    inversion_method: Literal["fixed point", "O-BELM"] = FIXED_POINT
    iterations: int = DEFAULT_ITERATIONS
    tolerance: float = DEFAULT_TOLERANCE
    negative: Literal["null", "source"] = "null"
    adapter_scale: float = 1.0
    view: str = RELEASED_VIEW
    local_strength: float = RELEASED_LOCAL_STRENGTH
    prompt: str = RELEASED_PROMPT
    negative_prompt: str = RELEASED_NEGATIVE
    score: float = AESTHETIC_SCORE
    prior_guidance: float = MINIATURE_GUIDANCE
    prior_source: str = SOURCE
    temperature: float = 0.0
    find_mask: bool = False
    mask_strength: float = DEFAULT_STRENGTH
    mask_softness: float = DEFAULT_SOFTNESS

    def __post_init__(self):
        for name, choices in (
            ("mode", MIX_MODES),
            ("formula", MIX_FORMULAS),
            ("negative", NEGATIVES),
            ("inversion", INVERSIONS),
            ("inversion_method", INVERSION_METHODS),
            ("prior_source", tuple(MODALITIES)),
            ("view", VIEWS),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"{name} is {value!r}; choose one of: {', '.join(choices)}.")
        if not 0.0 <= self.alpha <= 1.0:
            raise ValueError(f"alpha must be between 0 and 1, got {self.alpha}.")
        check_schedule(self.scheduler, self.steps)
        if self.start_at_step < 0:
            raise ValueError(f"start_at_step is {self.start_at_step}; it must be 0 or more.")
        InversionOptions(self.iterations, self.tolerance)
        MaskOptions(self.mask_strength, self.mask_softness)

    @property
    def whole(self) -> bool:
        """Whether pictures are inverted all the way up."""
        return self.start_at_step == 0


DEFAULTS = EditOptions()
