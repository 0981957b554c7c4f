"""Train the miniature's refinement prior on Toyland: python -m any2pix.training.train_prior [--recipe NAME] [--work
DIR] [--out DIR].

The paper's loss, ||F(X) - prior(C(F(X)), score(X))||^2 (InstructAny2Pix sec. 3): F is the frozen ImageBind, X a picture
drawn more or less cleanly, score its aesthetic score. C adds Gaussian noise, or replaces F(X) with the embedding of a
text or a sound that goes with X. We add a third kind, the embedding of the same scene drawn at another cleanliness:
without it the prior hardly learns to use the score. Some rows have neither embedding nor score: they train the
unconditional pass of guidance as inference runs it.
"""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from torch import Tensor
from tqdm import tqdm

from ..datagen.sounds import SOUND_KINDS
from ..datagen.toyland import TEST_SEEDS_FROM, Scene, aesthetic, render
from ..loading.files import write_network_file
from ..loading.imagebind import load_imagebind
from ..miniature import manifest
from ..models.imagebind import ImageBind
from ..models.mm_llm import EMBED_NORM
from ..models.prior import INPUT_NORM, MODALITIES, PriorDims, RefinementPrior
from ..stages.any2pix.refine import clip_prompts
from ..stages.preprocess import END_OF_TEXT, START_OF_TEXT, tokenize_clip
from .bank import SceneBank, embed_bank, scene_bank
from .caches import cached
from .command import network_file, run_command
from .digests import fingerprint
from .imagebind_data import draw_phrase
from .llm_bank import embed_sounds
from .loop import fit
from .prior_scores import held_out_scores
from .recipe_files import read_section
from .recipe_types import PriorData, PriorNetwork, PriorRecipe

logger = logging.getLogger(__name__)

TARGET_NORM = EMBED_NORM  # the prior answers at the length that the rest of the pack works with
CORRUPTIONS = ("noise", "mess", "text", "sound")
PROMPTS_EVERY = 3  # batches; a prompt lengthens every row of its batch, so the prompts come together


@dataclass(frozen=True)
class PriorBank:
    """Unit-norm embeddings: `pictures` (N, D) of `scenes` with their aesthetic `scores` (N,), `sounds` (kinds, takes,
    D).

    `twins` (T, D): the first T scenes, drawn again at another cleanliness.
    """

    scenes: tuple[Scene, ...]
    pictures: Tensor
    scores: Tensor
    twins: Tensor
    sounds: Tensor


def prior_bank(imagebind: ImageBind, weights: Path, work: Path, data: PriorData) -> PriorBank:
    """Draw and embed the training pictures and sounds, or read them back."""
    bank = scene_bank(work, data.pictures, data.seed, "train", data.messy_share)

    def embed() -> tuple[Tensor, Tensor, Tensor]:
        pictures = F.normalize(embed_bank(imagebind, bank), dim=-1)
        twins = _embed_twins(imagebind, bank.scenes[: data.twins], data.seed)
        return pictures, twins, embed_sounds(imagebind, range(data.seed, data.seed + data.sounds))

    name = f"prior-embeddings-{data.twins}-twins-{data.sounds}-sounds"
    pictures, twins, sounds = cached(work, name, bank.key, weights, embed)
    scores = torch.tensor([aesthetic(float(cleanliness)) for cleanliness in bank.cleanliness])
    return PriorBank(bank.scenes, pictures, scores, twins, sounds)


def _embed_twins(imagebind: ImageBind, scenes: tuple[Scene, ...], seed: int) -> Tensor:
    """The scenes at a cleanliness of their own each, uniform from 0 to 1 -> (T, D), unit norm."""
    cleanliness = np.random.default_rng(seed).uniform(size=len(scenes)).astype(np.float32)
    images = np.stack(
        [
            render(scene, float(c))
            for scene, c in zip(tqdm(scenes, desc="drawing twins", mininterval=5), cleanliness, strict=True)
        ]
    )
    return F.normalize(embed_bank(imagebind, SceneBank(images, scenes, cleanliness)), dim=-1)


class Batches:
    """make_batch of the training loop: the arguments of `RefinementPrior.training_loss`."""

    def __init__(self, recipe: PriorRecipe, bank: PriorBank, imagebind: ImageBind, dims: PriorDims):
        self.bank, self.imagebind, self.dims, self.clip = bank, imagebind, dims, dims.clip
        self.size, self.dropped = recipe.loop.batch_size, recipe.unconditional
        self.levels = torch.tensor([recipe.noise_level.get(name, 0.0) for name in CORRUPTIONS])
        self.shares = torch.tensor([float(getattr(recipe.corruption, name)) for name in CORRUPTIONS])

    def __call__(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        index = torch.randint(len(self.bank.scenes), (self.size,), generator=generator)
        chosen = torch.multinomial(self.shares, self.size, replacement=True, generator=generator)
        mess, text, sound = (chosen == CORRUPTIONS.index(name) for name in CORRUPTIONS[1:])
        index[mess] %= len(self.bank.twins)
        target = self.bank.pictures[index]
        start = target.clone()
        start[mess] = self.bank.twins[index[mess]]
        corrupted, modality = self._noisy(start, self.levels[chosen], generator)
        texts = [""] * self.size
        said = text.nonzero().flatten().tolist()
        with_prompts = step % PROMPTS_EVERY == 0
        for row, (embedding, words) in zip(
            said, self._texts([self.bank.scenes[int(index[row])] for row in said], with_prompts, rng), strict=True
        ):
            corrupted[row], texts[row], modality[row] = embedding, words, MODALITIES["text"]
        for row in sound.nonzero().flatten().tolist():
            corrupted[row], modality[row] = self._sound(self.bank.scenes[int(index[row])], rng), MODALITIES["audio"]
        unconditional = torch.rand(self.size, generator=generator) < self.dropped
        texts = ["" if skip else text for text, skip in zip(texts, unconditional.tolist(), strict=True)]
        ids, mask = clip_prompts(self.imagebind.tokenizer, texts, self.clip)
        return {
            "target": TARGET_NORM * target,
            "corrupted": INPUT_NORM * F.normalize(corrupted, dim=-1),  # a row of zeros stays one
            "score": self.bank.scores[index],
            "text_ids": ids,
            "text_mask": mask,
            "modality": modality,
            "unconditional": unconditional,
        }

    def _noisy(self, start: Tensor, most: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Embeddings (B, D) with noise of a length from 0 to `most` (B,), and a modality: a picture, or (as at
        inference) what an LLM predicted."""
        count, size = start.shape
        length = most[:, None] * torch.rand(count, 1, generator=generator)
        noise = torch.randn(count, size, generator=generator) / size**0.5  # of length 1
        kinds = torch.tensor([MODALITIES["image"], MODALITIES["video"]])
        return start + length * noise, kinds[torch.randint(2, (count,), generator=generator)]

    @torch.no_grad()
    def _texts(self, scenes: list[Scene], with_prompts: bool, rng: np.random.Generator) -> list[tuple[Tensor, str]]:
        """A true text for every scene: its embedding; with prompts, the words too, or with a zero embedding (as
        released)."""
        if not scenes:
            return []
        texts = [draw_phrase(scene, rng).text for scene in scenes]
        tokens = tokenize_clip(self.imagebind.tokenizer, texts, self.imagebind.dims.text_context)
        embeddings = F.normalize(self.imagebind.encode_text(tokens), dim=-1)
        if not with_prompts:
            return [(embedding, "") for embedding in embeddings]
        return [(embedding * int(rng.integers(2)), text) for embedding, text in zip(embeddings, texts, strict=True)]

    def _sound(self, scene: Scene, rng: np.random.Generator) -> Tensor:
        """A sound of the scene's subject or weather."""
        kinds = [kind for kind in (scene.subject, scene.weather) if kind in SOUND_KINDS]
        takes = self.bank.sounds[SOUND_KINDS.index(str(rng.choice(kinds)))]
        return takes[int(rng.integers(len(takes)))]


def dims_for(imagebind: ImageBind, network: PriorNetwork) -> PriorDims:
    """The config's sizes, with D and the prompts' vocabulary taken from ImageBind, whose tokenizer the prior shares."""
    tokenizer = imagebind.tokenizer
    sizes = asdict(network)
    clip = {
        "vocab_size": tokenizer.get_vocab_size(),
        **sizes.pop("text"),
        "bos_token_id": tokenizer.token_to_id(START_OF_TEXT),
        "eos_token_id": tokenizer.token_to_id(END_OF_TEXT),
    }
    return PriorDims(embed=imagebind.dims.embed, clip=clip, **sizes)


def loss_of(prior: RefinementPrior, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    device = prior.modality_embedding.weight.device
    return {"loss": prior.training_loss(**{name: value.to(device) for name, value in batch.items()})}


def train(config: dict, work: Path, out: Path) -> dict[str, float]:
    """Train, measure on held-out seeds, combinations and sounds, write `out`/prior.safetensors; returns the scores."""
    recipe = read_section(PriorRecipe, config)
    loop, data = recipe.loop, recipe.data
    weights = network_file(out, manifest.IMAGEBIND)
    imagebind = load_imagebind(weights)
    bank = prior_bank(imagebind, weights, work, data)
    torch.manual_seed(loop.seed)
    prior = RefinementPrior(dims_for(imagebind, recipe.network))
    prior = fit(
        "prior",
        prior,
        Batches(recipe, bank, imagebind, prior.dims),
        loss_of,
        loop,
        work,
        fingerprint(config, [weights]),
    ).module

    if not PartialState().is_main_process:
        return {}
    prior = prior.half().float().requires_grad_(False)  # measured as it is stored
    prior.tokenizer = imagebind.tokenizer
    held_out = TEST_SEEDS_FROM + data.seed
    scores = held_out_scores(prior, imagebind, data.held_out_scenes, data.held_out_sounds, held_out)
    logger.info("prior on held-out seeds and combinations: %s", json.dumps(scores))
    metadata = {"any2pix.scores": json.dumps(scores)}
    path = Path(out) / manifest.PRIOR
    write_network_file(
        path, "prior", prior.state_dict(), prior.dims.to_dict(), prior.tokenizer.to_str(), metadata, torch.float16
    )
    return scores


def main(argv: list[str] | None = None) -> None:
    run_command(train, "prior", argv)


if __name__ == "__main__":
    main()
