"""Multimodal Instruction LLM: what the artist asks for -> embeddings of the result and of the picture to edit."""

import torch
from comfy_api.latest import io, ui

from ..stages.any2pix.instruct import MAX_NEW_TOKENS, check_instruction, instruct
from ..stages.types import EditPlan, References
from .host.host_options import where_known
from .host.networks import Network, cancellable_progress, transformer_activations
from .sockets import CATEGORY, PREDICTION, Embedding, EmbeddingSocket, LLMSocket, ReferencesSocket, SubjectsSocket

PROMPT_TOKENS = 256  # room for chat template and instruction when memory is set aside
MAX_SEED = 0xFFFFFFFFFFFFFFFF


class Instruct(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Any2PixInstruct",
            display_name="Multimodal Instruction LLM",
            category=CATEGORY,
            description="Reads an instruction that mixes words, pictures and sounds, and predicts the embedding of "
            "the result.",
            **where_known(
                io.Schema,
                search_aliases=[
                    "instruct edit",
                    "edit by instruction",
                    "sound to image",
                    "audio edit",
                    "multimodal edit",
                    "caption",
                ],
                has_intermediate_output=True,
            ),
            is_output_node=True,  # so that its text is sent to the page again when the node itself is cached
            inputs=[
                LLMSocket.Input("llm", tooltip="From Load Multimodal LLM."),
                io.String.Input(
                    "instruction",
                    multiline=True,
                    default="add [audio1] to [image1]",
                    tooltip="What to do, in words. [image1] is the first picture of the chain, [audio2] the second "
                    "sound, [text1] the first text; each may be used any number of times, in any order.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=MAX_SEED,
                    control_after_generate=True,
                    tooltip="Seed of the answer when temperature is above 0.",
                ),
                io.Float.Input(
                    "temperature",
                    default=0.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="0 always gives the most likely answer. The published demo uses 0.3; higher is more "
                    "varied and less reliable.",
                ),
                io.Int.Input(
                    "max_new_tokens",
                    default=MAX_NEW_TOKENS,
                    min=1,
                    max=1024,
                    tooltip="Maximum length of the answer, in tokens. Raise it if the caption is cut off and the node "
                    "reports an answer without an embedding.",
                    **where_known(io.Int.Input, advanced=True),
                ),
                ReferencesSocket.Input(
                    "references",
                    optional=True,
                    tooltip="The chain of pictures, sounds and texts that the instruction may name. Without it, the "
                    "instruction consists of words only.",
                ),
            ],
            outputs=[
                EmbeddingSocket.Output(display_name="edit", tooltip="The embedding of the result."),
                EmbeddingSocket.Output(
                    display_name="base",
                    tooltip="The embedding of the picture to edit, or <base_null>. For Base Retrieval.",
                ),
                io.String.Output(display_name="caption", tooltip="Description of the result, written by the LLM."),
                SubjectsSocket.Output(
                    display_name="subjects", tooltip="The subjects that the answer adds, each with its embedding."
                ),
                io.String.Output(display_name="answer", tooltip="The whole answer of the LLM."),
            ],
        )

    @classmethod
    def execute(
        cls,
        llm: Network,
        instruction: str,
        seed: int,
        temperature: float,
        max_new_tokens: int,
        references: References = (),
    ) -> io.NodeOutput:
        # before gigabytes are moved
        check_instruction(llm.module, references, instruction, temperature, max_new_tokens)
        llama = llm.module.dims.llama
        tokens = PROMPT_TOKENS + max_new_tokens
        network = llm.load(transformer_activations(tokens, llama["hidden_size"], llama["num_hidden_layers"]))
        generator = torch.Generator().manual_seed(seed)
        plan = instruct(
            network,
            references,
            instruction,
            generator,
            temperature,
            max_new_tokens,
            callback=cancellable_progress(),
            device=llm.device,
        )
        edit = Embedding(plan.edit.cpu(), origin=PREDICTION)
        vector = None if plan.base is None else plan.base.cpu()
        base = Embedding(vector, candidates=plan.mentioned, chain=references, origin=PREDICTION)
        return io.NodeOutput(edit, base, plan.caption, plan.subjects, plan.answer, ui=ui.PreviewText(_shown(plan)))


def _shown(plan: EditPlan) -> str:
    """What stands on the node: how the marks were read, where that needs saying; the caption; the answer."""
    return "\n\n".join([*(["\n".join(plan.notes)] if plan.notes else []), plan.caption, plan.answer])
