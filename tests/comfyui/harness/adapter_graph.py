"""Graphs that paint with an adapter in many ways at once; each way is saved as a latent to be compared."""

import torch
from torch import Tensor

from harness.edit_graph import node, with_defaults

SIZE = 128
STEPS = 3
CFG = 3.0
TWO_VIEW_FILE = "test_two_view.safetensors"
ADAPTERS = {"unclip": "miniature", "two_view": TWO_VIEW_FILE}
PLAIN = {"scale": 1.0, "start_percent": 0.0, "end_percent": 1.0, "view": "both", "local_strength": 0.5}


class Painting:
    """A growing graph (API format). Methods add nodes and return links to them; names are made up as they come."""

    def __init__(self, adapter: str, object_info: dict):
        self.graph: dict[str, dict] = {}
        self.object_info = object_info
        self.saved: list[str] = []
        self.kind = adapter
        self.adapter = self.add("Any2PixLoadAdapter", name=ADAPTERS[adapter])
        self.model = self.add("Any2PixLoadDiffusion", name="miniature")
        self.text, self.other_text, self.away = (self.add_text(seed) for seed in (1, 3, 5))
        self.vector, self.other_vector = (
            self.add("Any2PixTestVector", seed=seed, size=64, norm=20.0) for seed in (11, 12)
        )
        self.empty = self.add_empty()

    def add(self, class_type: str, **inputs) -> list:
        name = f"{class_type}{len(self.graph)}"
        self.graph[name] = node(class_type, **inputs)
        return [name, 0]

    def add_text(self, seed: int) -> list:
        return self.add("Any2PixTestText", seed=seed, tokens=77, context=128, pooled=64)

    def add_empty(self, width: int = SIZE, height: int = SIZE, count: int = 1) -> list:
        return self.add("EmptyLatentImage", width=width, height=height, batch_size=count)

    def apply(self, vector: list | None = None, **inputs) -> tuple[list, list, list]:
        """Apply Embedding -> links to its model, positive and negative."""
        given = {"model": self.model, "positive": self.text, "negative": self.away, "adapter": self.adapter, **PLAIN}
        name = self.add("Any2PixApplyEmbedding", **{**given, "embedding": vector or self.vector, **inputs})[0]
        return [name, 0], [name, 1], [name, 2]

    def apply_again(
        self, applied: tuple[list, list, list], vector: list | None = None, **inputs
    ) -> tuple[list, list, list]:
        """Apply Embedding behind another one."""
        model, positive, negative = applied
        return self.apply(vector, model=model, positive=positive, negative=negative, **inputs)

    def split(self, model: list, label: str = "split") -> list:
        """The model on a computer that is short of memory: ComfyUI runs every row of it alone."""
        return self.add("Any2PixTestBatches", model=model, label=label, split=True)

    def sample(self, model: list, positive: list, negative: list, latent: list | None = None, cfg: float = CFG) -> str:
        """KSampler -> the name its latent will have."""
        widgets = {
            "seed": 7,
            "steps": STEPS,
            "cfg": cfg,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
        }
        links = {"model": model, "positive": positive, "negative": negative, "latent_image": latent or self.empty}
        return self.save(self.add("KSampler", **links, **widgets))

    def guide(self, class_type: str, steps: int = STEPS, latent: list | None = None, **inputs) -> str:
        """A guider behind SamplerCustomAdvanced -> the name its latent will have."""
        guider = self.add(class_type, **inputs)
        sigmas = self.add("BasicScheduler", model=inputs["model"], scheduler="normal", steps=steps, denoise=1.0)
        links = {"noise": self.add("RandomNoise", noise_seed=7), "guider": guider, "sigmas": sigmas}
        sampler = self.add("KSamplerSelect", sampler_name="euler")
        return self.save(self.add("SamplerCustomAdvanced", **links, sampler=sampler, latent_image=latent or self.empty))

    def save(self, latent: list) -> str:
        name = f"latent{len(self.saved)}"
        self.saved.append(name)
        self.graph[name] = node("SaveLatent", samples=latent, filename_prefix=f"latents/{name}")
        return name

    def run(self, client) -> dict[str, Tensor]:
        """Every saved latent (B, 4, h, w), by the name it was given."""
        run = client.run(with_defaults(self.graph, self.object_info))
        return {name: client.latent(run, name) for name in self.saved}


def difference(one: Tensor, other: Tensor) -> float:
    """Relative L2 distance of two latents."""
    assert torch.isfinite(one).all() and one.shape == other.shape
    return float((one - other).norm() / other.norm())
