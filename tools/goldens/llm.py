"""The released LLM and the released inference around it: prompt ids, logits, a whole greedy answer, its embeddings."""

import io
import json
import shutil
import sys
import types
from pathlib import Path
from unittest.mock import MagicMock

import torch
from golden_inputs import seeded
from golden_inputs.llm import (
    ANSWER,
    EMBED,
    FREE_TOKENS,
    INSTRUCTION,
    INSTRUCTIONS,
    SEED,
    SIZES,
    TOKENIZER,
    lead,
    llama_arguments,
    references,
)
from torch import Tensor

from . import authors

ADDED = ("<im_gen_start>", "<im_gen>", "<mask_gen>", "<audio_gen>", "<audio_gen_start>", "<audio>", "<video>", "<base>",
         "<base_null>")  # fmt: skip
TEXT = """add a cat to the picture. make it rain on the black dog, please. Remove the car from the meadow!
A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and
polite answers to the user's questions. USER: ASSISTANT: Here it is. [a cat in the rain] additions: snow night"""


def make(options, size: str) -> None:
    """Write llm_<size>.safetensors; with "small" also the tokenizer and prompts.safetensors."""
    pipeline = import_pipeline(options)
    notes = {"seed": SEED, **options.notes("instructany2pix")}
    if size == "small":
        _make_tokenizer()
    tokenizer = pipeline.transformers.AutoTokenizer.from_pretrained(TOKENIZER.parent, subfolder=TOKENIZER.name)
    if size == "small":
        prompts = {text: torch.tensor(tokenizer(_prompt(pipeline, text)).input_ids) for text in (*INSTRUCTIONS,)}
        prompts["answer"] = torch.tensor(tokenizer(ANSWER, add_special_tokens=False).input_ids)
        seeded.save("prompts", prompts, notes)
    model = _build(pipeline, SIZES[size], tokenizer)
    prompt = tokenizer(_prompt(pipeline, INSTRUCTION), return_tensors="pt").input_ids
    answer = tokenizer(ANSWER, add_special_tokens=False).input_ids
    scaled = references() / references().norm(dim=1, keepdim=True) * 20
    shown = {"data": scaled, "mask": torch.zeros(2, dtype=torch.long)}
    with torch.no_grad():
        free = model.generate(prompt, max_new_tokens=FREE_TOKENS, do_sample=False, use_cache=False, images=None,
                              extra_replacement=shown)[0, prompt.shape[1]:]  # fmt: skip
        whole = torch.cat([prompt, torch.tensor([answer])], dim=1)
        forced = model(whole, extra_replacement=shown, output_hidden_states=True, return_dict=True)
        states = forced.hidden_states[-1][0, prompt.shape[1] - 1 : -1]
        model.lm_head.weight.copy_(lead(model.lm_head.weight, states, answer))
        found = _answer(pipeline, model, tokenizer)
    logits = forced.logits[0, :: 1 if size == "small" else 8]
    tensors = {"logits": logits, "states": states[::4], "free": free, **found}
    seeded.save(f"llm_{size}", tensors, notes)


def _answer(pipeline, model, tokenizer) -> dict[str, Tensor]:
    """The released forward_llm on two references, decoded greedily."""
    outputs, sequences = [], []
    model.get_model().vae_predictor_image.register_forward_hook(lambda *call: outputs.append(call[-1][0, 0]))
    generate = model.generate

    def greedy(*arguments, do_sample, temperature, **rest):
        result = generate(*arguments, do_sample=False, **rest)
        sequences.append(result.sequences[0])
        return result

    model.generate = greedy
    embeddings = dict(zip(("picture", "sound"), references()[:, None], strict=True))
    released = pipeline.InstructAny2PixPipeline
    host = types.SimpleNamespace(
        any2pix_tokenizer=tokenizer, any2pix_lm=model, get_all_objs=released.get_all_objs,
        model_imb=lambda inputs: {key: embeddings[value] for key, value in inputs.items()},
    )  # fmt: skip
    pipeline.image_bind_data.load_and_transform_vision_data = lambda paths, _: paths[0]
    pipeline.image_bind_data.load_and_transform_audio_data = lambda paths, _: paths[0]
    torch.Tensor.cuda = lambda self: self
    data = [{"type": "image", "fname": "picture"}, {"type": "audio", "fname": "sound"}]
    edit, base, caption, base_file, extra = released.forward_llm(host, INSTRUCTION, data)
    names = json.dumps({"caption": caption, "subjects": extra["all_objs"], "base": base_file})
    assert len(outputs) == 4, "gen, two additions, base"
    assert torch.equal(outputs[0], edit[0, 0]) and torch.equal(outputs[3], base[0])
    return {
        "tokens": sequences[0], "edit": outputs[0], "subjects": torch.stack(outputs[1:3]), "base": outputs[3],
        "texts": torch.frombuffer(bytearray(names.encode()), dtype=torch.uint8),
    }  # fmt: skip


def _prompt(pipeline, instruction: str) -> str:
    conversation = pipeline.conv_templates["vicuna_v1"].copy()
    conversation.append_message(conversation.roles[0], instruction)
    conversation.append_message(conversation.roles[1], None)
    return conversation.get_prompt()


def _build(pipeline, size: dict, tokenizer):
    """The released classes at these sizes, with the projector and predictor that the published config asks for."""
    from instructany2pix.llm.model.any2pix_arch import build_vision_predictor, build_vision_projector
    from instructany2pix.llm.model.language_model.any2pix_llama import InstructAny2PixLMConfig

    config = InstructAny2PixLMConfig(**llama_arguments(size, len(tokenizer)), mm_projector_type="mlp2x_gelu")
    model = pipeline.InstructAny2PixLMForCausalLM(config)
    model.model.vae_projector_image = build_vision_projector(config, input_size=EMBED)
    model.model.vae_predictor_image = build_vision_predictor(config, output_size=EMBED)
    model.initialize_vision_tokenizer(None, tokenizer, True)
    seeded.fill(model, SEED)
    return model.eval()


def _make_tokenizer() -> None:
    """A LLaMA tokenizer of few words, extended and saved as the released training script does."""
    import sentencepiece
    from transformers import LlamaTokenizer

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.splitlines()), model_writer=model, vocab_size=400, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        allow_whitespace_only_pieces=True, hard_vocab_limit=False, num_threads=1,
    )  # fmt: skip
    shutil.rmtree(TOKENIZER, ignore_errors=True)
    TOKENIZER.mkdir(parents=True)
    source = TOKENIZER / "source.model"
    source.write_bytes(model.getvalue())
    tokenizer = LlamaTokenizer(str(source), model_max_length=2048, padding_side="right")
    tokenizer.pad_token = tokenizer.unk_token
    tokenizer.add_tokens(list(ADDED), special_tokens=True)
    tokenizer.save_pretrained(TOKENIZER)
    source.unlink()


def import_pipeline(options):
    """instructany2pix.pipeline; what only its other stages use imports as mocks."""
    if "instructany2pix.pipeline" in sys.modules:
        return sys.modules["instructany2pix.pipeline"]
    authors.on_path(options.instructany2pix)
    authors.package("instructany2pix", Path(options.instructany2pix) / "instructany2pix")
    authors.stand_in("imagebind", "groundingdino", "segment_anything", "cv2", "torchaudio", "languagebind")
    sys.modules["instructany2pix.llm.model.vae.builder"] = MagicMock()  # image and audio tokenizers, not in use
    from instructany2pix import pipeline

    return pipeline
