"""Inputs of every socket type from a random generator: mostly as they should be, now and then as they should not."""

import math
import random
import string
from typing import Any

import torch

ODD_SHARE = 0.2  # of the inputs of one run
WORK = {
    "steps": 3,
    "iterations": 2,
    "max_new_tokens": 6,
    "blank_size": 128,
    "width": 128,
    "height": 128,
}  # most of a whole number
NEVER_ODD = (
    "IMAGEBIND",
    "MM_LLM",
    "MM_PRIOR",
    "MM_ADAPTER",
    "MODEL",
    "VAE",
    "CLIP",
    "NOISE",
    "SIGMAS",
)  # no node but a loader makes them
LLM_WORDS = (
    "add [audio1] to [image1]",
    "make it snow",
    "[image2] in ink",
    "put [text1] in [image1]",
    "image1",
    "[iamge1]",
    "（image 2）",
    "[图片1]",
    "[image",
    "a picture 1 metre wide",
    "<base>",
    "</s>",
    "<|endoftext|>",
    "<video>",
    "[]",
    "{",
    "]]",
    "\ufffc",
    "\0",
    "\ud83d",
    "é́́",
    "雪",
    "🐸",
    "\u202e",
    "  ",
    "\n",
    "1",
    "[audio 99]",
    "[sound one]",
    "[image999999999999]",
)


class Values:
    """Draws inputs. ``made``: ready values by socket type, such as networks, of which one is taken."""

    def __init__(self, seed: int, made: dict[str, list[Any]]) -> None:
        self.random, self.made = random.Random(seed), made
        self.torch = torch.Generator().manual_seed(seed)

    def inputs(self, schema: Any) -> dict[str, Any]:
        """Inputs for a node, by name; optional ones may be missing."""
        chosen = {}
        for entry in schema.inputs:
            if not (entry.optional and self.random.random() < 0.3):
                chosen[entry.id] = self.one(entry)
        if schema.is_input_list:
            for name, value in chosen.items():
                chosen[name] = self.random.choice(([value], [value], [value, value], []))
        return chosen

    def one(self, entry: Any) -> Any:
        kind = str(entry.get_io_type())
        draw = getattr(self, f"_{kind.lower()}", None)
        if kind not in NEVER_ODD and self.random.random() < ODD_SHARE:
            odd = getattr(self, f"_odd_{kind.lower()}", self._odd)
            return odd()
        return self.random.choice(self.made[kind]) if draw is None else draw(entry)

    def tensor(self, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=self.torch)

    def side(self) -> int:
        return self.random.choice((1, 2, 7, 16, 33, 64))

    def broken(self, tensor: torch.Tensor) -> torch.Tensor:
        """The same tensor with something that numbers can be."""
        tensor = tensor.clone()
        if tensor.numel():
            tensor.view(-1)[self.random.randrange(tensor.numel())] = self.random.choice(
                (math.nan, math.inf, -math.inf, 1e38, -1e4)
            )
        return tensor

    def cast(self, tensor: torch.Tensor) -> torch.Tensor:
        kinds = (torch.float16, torch.bfloat16, torch.float64, torch.uint8, torch.int64, torch.bool, torch.complex64)
        return tensor.to(self.random.choice(kinds))

    def _image(self, _: Any) -> torch.Tensor:
        return self.tensor(self.random.choice((1, 1, 2)), self.side(), self.side(), self.random.choice((3, 3, 3, 4, 1)))

    def _odd_image(self) -> Any:
        picture = self.tensor(1, self.side(), self.side(), 3)
        return self.random.choice(
            (
                lambda: self.broken(picture),
                lambda: self.cast(picture),
                lambda: picture[0],
                lambda: picture[..., 0],
                lambda: [picture, None],
                lambda: picture[:0],
                lambda: picture[:, :0],
                lambda: picture.movedim(-1, 1),
                lambda: picture * 255,
                lambda: picture[..., :2],
                lambda: self.tensor(1, 1, 4000, 3),
                lambda: [picture, self.tensor(2, 3, 5, 3)],
                lambda: picture[None],
                self._odd,
            )
        )()

    def _audio(self, _: Any) -> dict[str, Any]:
        rate = self.random.choice((8000, 16000, 22050, 44100, 48000))
        return {
            "waveform": self.tensor(1, self.random.choice((1, 2)), int(rate * self.random.uniform(0.05, 2.5))) - 0.5,
            "sample_rate": rate,
        }

    def _odd_audio(self) -> Any:
        sound = self._audio(None)
        wave = sound["waveform"]
        return self.random.choice(
            (
                lambda: {**sound, "waveform": self.broken(wave)},
                lambda: {**sound, "waveform": self.cast(wave)},
                lambda: {**sound, "waveform": wave[0]},
                lambda: {**sound, "waveform": wave[..., : self.random.choice((0, 1, 100))]},
                lambda: {**sound, "waveform": wave * 0},
                lambda: {**sound, "sample_rate": self._odd_int()},
                lambda: {"waveform": wave},
                lambda: {},
                lambda: {**sound, "waveform": None},
                lambda: {**sound, "waveform": self.tensor(3, 6, 5000)},
                lambda: [sound, sound],
                self._odd,
            )
        )()

    def _string(self, _: Any) -> str:
        return " ".join(self.random.choice(LLM_WORDS) for _ in range(self.random.randrange(1, 6)))

    def _odd_string(self) -> Any:
        letters = [chr(self.random.randrange(0x110000)) for _ in range(self.random.randrange(40))]
        return self.random.choice(
            (
                lambda: "".join(letters),
                lambda: "",
                lambda: self._string(None) * 3000,
                lambda: self.random.choice(string.printable) * 100_000,
                lambda: ", ".join(str(self._odd_float()) for _ in range(3)),
                lambda: "../" * 9 + "etc/passwd",
                self._odd,
            )
        )()

    def _int(self, entry: Any) -> int:
        return self.random.randint(entry.min, min(entry.max, WORK.get(entry.id, entry.max)))

    def _float(self, entry: Any) -> float:
        return self.random.choice((entry.min, entry.max, self.random.uniform(entry.min, entry.max)))

    def _odd_int(self) -> Any:
        return self.random.choice(
            (-1, 0, 2**63, 2**64, -(2**70), 1.5, "3", 3.0, torch.tensor(2), self._odd_float(), self._odd())
        )

    def _odd_float(self) -> Any:
        return self.random.choice(
            (math.nan, math.inf, -math.inf, -1.0, -1e-30, 5e-324, 1e300, 2, "0.5", True, self._odd())
        )

    def _boolean(self, _: Any) -> bool:
        return self.random.random() < 0.5

    def _combo(self, entry: Any) -> Any:
        return self.random.choice(entry.options)

    def _odd_combo(self) -> Any:
        return self.random.choice(
            ("", "nothing", "res_2s", "../x.safetensors", "a\0b", "tiny.safetensors/", 3, self._odd())
        )

    def _latent(self, _: Any) -> dict[str, Any]:
        ready = self.random.choice(self.made["LATENT"])
        fresh = {"samples": self.tensor(self.random.choice((1, 2)), 4, self.side() % 9 + 1, self.side() % 9 + 1) - 0.5}
        return self.random.choice((ready, fresh))

    def _odd_latent(self) -> Any:
        latent = self._latent(None)
        samples = latent["samples"]
        return self.random.choice(
            (
                lambda: {**latent, "samples": self.broken(samples)},
                lambda: {**latent, "samples": self.cast(samples)},
                lambda: {"samples": samples * 0},
                lambda: {"samples": samples[:0]},
                lambda: {"samples": samples[:, :3]},
                lambda: {"samples": self.tensor(1, 16, 4, 4)},
                lambda: {"samples": self.tensor(1, 4, 2, 4, 4)},
                lambda: {"samples": None},
                lambda: {},
                lambda: {"samples": samples[0]},
                lambda: {**latent, "noise_mask": self.tensor(1, 8, 8)},
                lambda: {**latent, "noise_mask": None},
                lambda: {**latent, "batch_index": [5]},
                self._odd,
            )
        )()

    def _odd_conditioning(self) -> Any:
        ((context, options),) = self.random.choice(self.made["CONDITIONING"])
        return self.random.choice(
            (
                lambda: [],
                lambda: [[self.broken(context), options]],
                lambda: [[context, {}]],
                lambda: [[context[..., :5], options]],
                lambda: [[None, {}]],
                lambda: [[context, options], [context, options]],
                lambda: [[context]],
                lambda: [[self.cast(context), options]],
                self._odd,
            )
        )()

    def _odd_mm_references(self) -> Any:
        chain = self.random.choice(self.made["MM_REFERENCES"])
        return self.random.choice((lambda: (), lambda: chain * 300, lambda: [None], lambda: chain[::-1], self._odd))()

    def _odd(self) -> Any:
        """What any socket may get from a node that takes no care."""
        return self.random.choice((None, [], {}, (), "text", 3, math.nan, self.tensor(3, 3), object(), b"bytes"))
