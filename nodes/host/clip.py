"""Our text encoder as a genuine ComfyUI CLIP, so that stock CLIP Text Encode, Set Last Layer and LoRA loaders take
it."""

from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import comfy.sd
import torch
from comfy.sd1_clip import SD1ClipModel, SD1Tokenizer, SDClipModel, SDTokenizer
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from ...models.text_encoder import TextEncoder, TextEncoderDims
from ...stages.preprocess import END_OF_TEXT, START_OF_TEXT

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def build_clip(encoder: TextEncoder, **options: bool) -> comfy.sd.CLIP:
    """A text encoder with its tokenizer -> CLIP; its weights are copied, in the precision ComfyUI has text encoders in.

    ``options``: further ones of comfy's CLIP, such as ``disable_dynamic`` on hosts that know it.
    """
    target = SimpleNamespace(
        params={},
        clip=partial(SD1ClipModel, clip_model=partial(_ClipModel, encoder)),
        tokenizer=partial(SD1Tokenizer, tokenizer=partial(_tokenizer, encoder.tokenizer, encoder.dims)),
    )
    return comfy.sd.CLIP(target, parameters=sum(p.numel() for p in encoder.parameters()), **options)


class _ClipModel(SDClipModel):
    """comfy's CLIP with our sizes. Its context is the last hidden state after the final norm, as the UNet was
    trained."""

    def __init__(self, encoder: TextEncoder, dtype: torch.dtype | None = None, **options: Any) -> None:
        dims = encoder.dims
        special = {"start": dims.bos_token_id, "end": dims.eos_token_id, "pad": dims.padding}
        super().__init__(
            max_length=dims.max_position_embeddings,
            textmodel_json_config=dims.clip_config(),
            special_tokens=special,
            dtype=dtype,
            **options,
        )
        words = self.transformer.get_input_embeddings().weight  # comfy supports CLIP's own vocabulary only
        table = self.operations.Embedding(dims.vocab_size, dims.hidden_size, dtype=words.dtype, device=words.device)
        self.transformer.set_input_embeddings(table.requires_grad_(False))
        weights = encoder.state_dict()
        if not dims.projected:  # comfy's CLIP always projects the pooled text
            weights["text_projection.weight"] = torch.eye(dims.hidden_size)
        # Filled here, since ComfyUI may load the CLIP as soon as it is built. Cast, since with dynamic VRAM comfy's
        # layers take the tensors as they are. Strict: every key has a place.
        self.transformer.load_state_dict({key: value.to(dtype) for key, value in weights.items()})


def _tokenizer(
    tokenizer: Tokenizer, dims: TextEncoderDims, embedding_directory: Any, tokenizer_data: dict
) -> SDTokenizer:
    return SDTokenizer(
        tokenizer_path=tokenizer.to_str(),
        tokenizer_class=_FromText,
        max_length=dims.max_position_embeddings,
        pad_with_end=False,
        pad_token=dims.padding,
        embedding_directory=embedding_directory,
        embedding_size=dims.hidden_size,
        tokenizer_data=tokenizer_data,
    )


class _FromText:
    """Where comfy opens a tokenizer from a path, ours is at hand as text."""

    @staticmethod
    def from_pretrained(text: str, **_: Any) -> "PreTrainedTokenizerFast":
        from transformers import PreTrainedTokenizerFast

        tokenizer = Tokenizer.from_str(text)
        ends = [(mark, tokenizer.token_to_id(mark)) for mark in (START_OF_TEXT, END_OF_TEXT)]
        tokenizer.post_processor = TemplateProcessing(single=f"{START_OF_TEXT} $A {END_OF_TEXT}", special_tokens=ends)
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
