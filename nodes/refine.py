"""Refinement Prior and Embedding Mix: from the LLM's prediction to the embedding that is painted."""

from comfy_api.latest import io

from ..models.mm_llm import EMBED_NORM
from ..models.prior import MODALITIES
from ..stages.any2pix.mix import BASE_WEIGHT, EDIT_WEIGHT, MIX_FORMULAS, MIX_NORM, REFINED_WEIGHT, mix_embeddings
from ..stages.any2pix.refine import AESTHETIC_SCORE, GUIDANCE, SCORE_RANGE, SOURCE, refine
from ..stages.length import to_length
from .host.choices import ChoiceInput, check_choices, require_choice
from .host.host_options import where_known
from .host.networks import Network, transformer_activations
from .sockets import CATEGORY, MIX, REFERENCE, REFINED, Embedding, EmbeddingSocket, PriorSocket

# The artist's word for what the published prior calls "video": an embedding that the LLM predicted.
PREDICTED = "predicted"
SOURCES = [PREDICTED, *(name for name in MODALITIES if name != SOURCE)]
PROMPT_TOKENS = 77 + 9  # CLIP's context and the prior's own tokens
GUIDED_ROWS = 2


class Refine(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        low, high = SCORE_RANGE
        return io.Schema(
            node_id="Any2PixRefine",
            display_name="Refinement Prior",
            category=CATEGORY,
            description="Turns a predicted embedding, or that of a sound, into the embedding of a clean and pleasing "
            "picture.",
            **where_known(io.Schema, search_aliases=["diffusion prior", "sound to image"]),
            inputs=[
                PriorSocket.Input("prior", tooltip="From Load Refinement Prior."),
                EmbeddingSocket.Input(
                    "embedding",
                    tooltip="What to refine: the LLM's edit output, or a reference's embedding from Base Retrieval.",
                ),
                ChoiceInput(
                    "source",
                    options=SOURCES,
                    default=PREDICTED,
                    tooltip="Where the embedding comes from: predicted by the LLM, or an image, a sound or a text "
                    "through ImageBind.",
                ),
                io.Float.Input(
                    "aesthetic_score",
                    default=AESTHETIC_SCORE,
                    min=low,
                    max=high,
                    step=0.1,
                    tooltip="How clean and pleasing the picture should be, from 1 to 10. Popular photographs score "
                    "about 6.5.",
                ),
                io.Float.Input(
                    "guidance",
                    default=GUIDANCE,
                    min=0.0,
                    max=30.0,
                    step=0.1,
                    tooltip="Guidance scale of the prior: how strongly it follows its input. 1 is no guidance; the "
                    "published value is 10.",
                ),
                io.String.Input(
                    "text",
                    default="",
                    optional=True,
                    tooltip="The text itself, if source is text; the prior reads it too. Ignored otherwise.",
                ),
            ],
            outputs=[
                EmbeddingSocket.Output(
                    display_name="refined", tooltip="The refined embedding. For Embedding Mix or Apply Embedding."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, source: str | None = None) -> bool | str:
        return check_choices("Refinement Prior", source=(source, SOURCES))

    @classmethod
    def execute(
        cls, prior: Network, embedding: Embedding, source: str, aesthetic_score: float, guidance: float, text: str = ""
    ) -> io.NodeOutput:
        require_choice("source of Refinement Prior", source, SOURCES)
        vector = embedding.required("Refinement Prior")
        network = prior.load(transformer_activations(GUIDED_ROWS * PROMPT_TOKENS, prior.module.dims.width))
        modality = SOURCE if source == PREDICTED else source
        refined = refine(network, vector.to(prior.device), modality, text, aesthetic_score, guidance)
        if not refined.isfinite().all():
            raise ValueError(
                "The result of Refinement Prior holds NaN or infinite numbers: the prior overflowed. Set precision of "
                "Load Refinement Prior to bf16 or fp32, or lower guidance."
            )
        return io.NodeOutput(Embedding(to_length(refined, EMBED_NORM).cpu(), origin=REFINED))


class MixEmbeddings(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        def weight(name: str, default: float, what: str) -> io.Float.Input:
            return io.Float.Input(name, default=default, min=0.0, max=3.0, step=0.05, tooltip=what)

        return io.Schema(
            node_id="Any2PixMixEmbeddings",
            display_name="Embedding Mix",
            category=CATEGORY,
            description="Adds embeddings with weights and gives the sum a fixed length. Only the ratio of the "
            "weights counts.",
            **where_known(io.Schema, search_aliases=["blend embeddings", "average embeddings", "combine embeddings"]),
            inputs=[
                EmbeddingSocket.Input("edit", tooltip="The LLM's edit output."),
                EmbeddingSocket.Input("refined", optional=True, tooltip="The same, refined by the prior."),
                EmbeddingSocket.Input(
                    "base",
                    optional=True,
                    tooltip="The source picture's embedding, from Base Retrieval. <base_null> is left out.",
                ),
                weight(
                    "edit_weight",
                    EDIT_WEIGHT,
                    "Weight of the LLM's prediction. A higher value follows the instruction more closely.",
                ),
                weight(
                    "refined_weight",
                    REFINED_WEIGHT,
                    "Weight of the refined embedding. A higher value gives cleaner pictures.",
                ),
                weight(
                    "base_weight",
                    BASE_WEIGHT,
                    "Weight of the source picture. A higher value keeps more of its content: raise it if the edit "
                    "changes too much.",
                ),
                io.Float.Input(
                    "norm",
                    default=MIX_NORM,
                    min=0.1,
                    max=100.0,
                    step=0.1,
                    tooltip="Length of the result. The diffusion model was trained at 20; a shorter embedding has "
                    "less effect.",
                    **where_known(io.Float.Input, advanced=True),
                ),
                ChoiceInput(
                    "formula",
                    options=list(MIX_FORMULAS),
                    default=MIX_FORMULAS[0],
                    optional=True,
                    tooltip="equal: every part is weighted at length 20. released: predictions keep their lengths, as "
                    "in the published program. paper: prior + edit + base_weight times base.",
                ),
            ],
            outputs=[
                EmbeddingSocket.Output(
                    display_name="embedding", tooltip="For Apply Embedding or SDXL Embedding Sampler."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, formula: str | None = None) -> bool | str:
        return check_choices("Embedding Mix", formula=(formula, MIX_FORMULAS))

    @classmethod
    def execute(
        cls,
        edit: Embedding,
        edit_weight: float,
        refined_weight: float,
        base_weight: float,
        norm: float,
        formula: str = MIX_FORMULAS[0],
        refined: Embedding | None = None,
        base: Embedding | None = None,
    ) -> io.NodeOutput:
        vectors = [None if part is None else part.vector for part in (refined, base)]
        if formula == "released" and base is not None and base.origin == REFERENCE:
            vectors[1] = to_length(vectors[1], EMBED_NORM, "base embedding")  # the released code reads it at 20
        weights = (edit_weight, refined_weight, base_weight)
        return io.NodeOutput(
            Embedding(mix_embeddings(edit.required("Embedding Mix"), *vectors, *weights, norm, formula), origin=MIX)
        )
