"""Train the miniature's ImageBind on Toyland: python -m any2pix.training.train_imagebind [--recipe NAME] [--work DIR]
[--out DIR].

Contrastive (ImageBind eq. 1): pictures with their captions, with texts that name a part of what they show, and with
sounds; other matching items in the batch count as positives too. Linear heads on the embedding, discarded
afterwards, speed up the training and keep place, tidiness and colours in the embedding.
"""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..datagen.toyland import TEST_SEEDS_FROM, caption
from ..loading.atomic import write_atomic
from ..loading.files import write_network_file
from ..miniature import manifest
from ..models.imagebind import AUDIO_SCALE, ImageBind, ImageBindDims, contrastive_loss
from ..stages.preprocess import image_to_tensor, tokenize_clip
from .bank import SceneBank, scene_bank
from .clip_tokenizer import train_clip_tokenizer
from .command import run_command
from .digests import fingerprint
from .imagebind_data import (
    NAMES,
    UNSEEN,
    VALUES,
    SoundBank,
    agreement,
    draw_phrase,
    labels_of,
    sound_bank,
    vocabulary_texts,
)
from .imagebind_scores import readout_scores
from .loop import fit
from .recipe_files import read_section
from .recipe_types import ImageBindRecipe

logger = logging.getLogger(__name__)

TOKENIZER_FILE = "clip_tokenizer.json"
SHIFT = 4  # pixels a view is moved at most
LOOK = 8  # the look of a picture: its thumbnail of 8 x 8 pixels
PROBE_GAIN = 10.0  # unit embedding -> what the linear heads read


class Trainee(nn.Module):
    """ImageBind with the linear heads that are for training alone."""

    def __init__(self, imagebind: ImageBind) -> None:
        super().__init__()
        self.imagebind = imagebind
        embed = imagebind.dims.embed
        self.attributes = nn.ModuleList(nn.Linear(embed, len(VALUES[name])) for name in NAMES)
        self.look = nn.Linear(embed, 3 * LOOK**2 + 1)  # thumbnail and cleanliness

    def attribute_loss(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Mean cross entropy of the attributes that are not UNSEEN; (B, D), (B, N)."""
        features = PROBE_GAIN * F.normalize(embeddings, dim=-1)
        losses = [
            F.cross_entropy(head(features), labels[:, column], ignore_index=UNSEEN, reduction="sum")
            for column, head in enumerate(self.attributes)
        ]
        return torch.stack(losses).sum() / (labels != UNSEEN).sum().clamp_min(1)

    def look_loss(self, embeddings: Tensor, looks: Tensor) -> Tensor:
        return F.mse_loss(self.look(PROBE_GAIN * embeddings), looks)


def shifted_views(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """(B, 3, H, W) -> the same, each picture moved by up to SHIFT pixels, the border repeated."""
    size = pictures.shape[-1]
    padded = F.pad(pictures, (SHIFT,) * 4, mode="replicate")
    corners = torch.randint(2 * SHIFT + 1, (len(pictures), 2), generator=generator).tolist()
    return torch.stack(
        [picture[:, top : top + size, left : left + size] for picture, (top, left) in zip(padded, corners, strict=True)]
    )


class Batches:
    """make_batch of the training loop."""

    def __init__(
        self, recipe: ImageBindRecipe, bank: SceneBank, sounds: SoundBank, tokenizer: Tokenizer, dims: ImageBindDims
    ) -> None:
        self.size, self.sounds_each = recipe.loop.batch_size, recipe.batch.sounds
        self.views = recipe.batch.second_views
        self.bank, self.sounds, self.tokenizer, self.dims = bank, sounds, tokenizer, dims
        self.labels = torch.tensor([labels_of(scene) for scene in bank.scenes])
        self.sound_labels = sounds.labels()
        is_ink = torch.tensor([scene.style == "ink" for scene in bank.scenes]).double()
        ink_share = recipe.batch.ink_share
        self.shares = ink_share * is_ink / is_ink.sum() + (1 - ink_share) * (1 - is_ink) / (1 - is_ink).sum()

    def __call__(self, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.multinomial(self.shares, self.size, generator=generator)
        pictures = self.bank.batch(index)
        views = torch.cat([shifted_views(pictures, generator), shifted_views(pictures[: self.views], generator)])
        thumbnails = F.interpolate(pictures, (LOOK, LOOK), mode="area").flatten(1) * 2 - 1
        cleanliness = torch.from_numpy(self.bank.cleanliness[index.numpy()])[:, None]
        return {
            "pixels": image_to_tensor(views.movedim(1, -1), self.dims.image_size),
            "labels": self.labels[index],
            "looks": torch.cat([thumbnails, cleanliness], dim=1),
            **self._texts(index, generator),
            **self._sounds(generator),
        }

    def _texts(self, index: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        scenes = [self.bank.scenes[i] for i in index]
        phrases = [draw_phrase(scene, rng) for scene in scenes]
        tokens = tokenize_clip(
            self.tokenizer, [*map(caption, scenes), *(phrase.text for phrase in phrases)], self.dims.text_context
        )
        longest = int(tokens.argmax(dim=-1).max()) + 1
        named = torch.tensor([[name in phrase.named for name in NAMES] for phrase in phrases])
        return {"tokens": tokens[:, :longest], "named": named}

    def _sounds(self, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(self.sound_labels), (self.sounds_each,), generator=generator)
        clip = torch.randint(self.sounds.clips.shape[1], (self.sounds_each,), generator=generator)
        clips = torch.from_numpy(self.sounds.clips[index.numpy(), clip.numpy()]).float()
        louder = 0.3 * torch.randn(self.sounds_each, 1, 1, 1, generator=generator)
        return {"clips": (clips + louder).unsqueeze(1), "sound_labels": self.sound_labels[index]}


def losses_of(trainee: Trainee, batch: dict[str, Tensor], recipe: ImageBindRecipe) -> dict[str, Tensor]:
    """Every loss by name, and their weighted sum as "loss"."""
    labels, named = batch["labels"], batch["named"]
    size = len(labels)
    network = trainee.imagebind
    pictures, views = network.encode_image(batch["pixels"]).split([size, len(batch["pixels"]) - size])
    captions, phrases = network.encode_text(batch["tokens"]).split(size)
    sounds = network.encode_audio(batch["clips"])
    temperature = 1 / captions.norm(dim=-1).mean()  # captions come scaled by the learned text scale
    all_but_place = torch.tensor([name != "place" for name in NAMES], device=labels.device)
    heard = batch["sound_labels"] != UNSEEN
    said = torch.where(named, labels, UNSEEN)  # what the phrases name
    targets = torch.cat(
        [agreement(labels, batch["sound_labels"], heard), agreement(said, batch["sound_labels"], heard)]
    )
    parts = {
        "caption": contrastive_loss(
            pictures, captions, temperature, agreement(labels, labels, all_but_place.expand_as(labels))
        ),
        "phrase": contrastive_loss(pictures, phrases, temperature, agreement(labels, labels, named)),
        "sound": contrastive_loss(pictures, sounds, 1 / AUDIO_SCALE, targets[:size]),
        "sound_phrase": contrastive_loss(phrases, sounds, 1 / AUDIO_SCALE, targets[size:]),
        "view": contrastive_loss(
            views, pictures, recipe.view_temperature, torch.eye(len(views), size, device=labels.device)
        ),
        "attributes": trainee.attribute_loss(pictures, labels)
        + trainee.attribute_loss(
            torch.cat([captions, phrases]), torch.cat([torch.where(all_but_place, labels, UNSEEN), said])
        )
        + trainee.attribute_loss(sounds, batch["sound_labels"]),
        "look": trainee.look_loss(pictures, batch["looks"]),
    }
    return {"loss": sum(getattr(recipe.weights, name) * value for name, value in parts.items()), **parts}


def train(config: dict, work: Path, out: Path) -> dict[str, float]:
    """Train, write ``out``/imagebind.safetensors; returns the scores on held-out seeds, combinations and sounds."""
    recipe = read_section(ImageBindRecipe, config)
    data, loop = recipe.data, recipe.loop
    bank = scene_bank(work, data.pictures, data.seed, "train", data.messy_share)
    tokenizer = train_clip_tokenizer(vocabulary_texts(bank.scenes, data.seed), recipe.vocabulary)
    write_atomic(work / TOKENIZER_FILE, tokenizer.to_str(pretty=True))
    dims = replace(ImageBindDims.miniature(tokenizer.get_vocab_size()), **recipe.network)
    sounds = sound_bank(work, data.sounds, data.seed, dims)
    torch.manual_seed(loop.seed)
    trainee = Trainee(ImageBind(dims))
    batches = Batches(recipe, bank, sounds, tokenizer, dims)
    held_out = scene_bank(work, data.held_out_pictures, data.seed + 1, "test")
    held_out_sounds = sound_bank(work, data.held_out_sounds, TEST_SEEDS_FROM + data.seed, dims)

    scores: dict[str, float] = {}

    def save(module: Trainee, step: int) -> None:
        imagebind = module.imagebind.half().float()  # measured as it is stored
        imagebind.tokenizer = tokenizer
        scores.update(readout_scores(imagebind, held_out, held_out_sounds))
        told = {"any2pix.scores": json.dumps(scores)}
        write_network_file(
            out / manifest.IMAGEBIND,
            "imagebind",
            imagebind.state_dict(),
            dims.to_dict(),
            tokenizer.to_str(),
            told,
            torch.float16,
        )
        logger.info("step %d: %s", step, json.dumps({name: round(value, 3) for name, value in scores.items()}))

    def loss(module: Trainee, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return losses_of(module, batch, recipe)

    fit("imagebind", trainee, batches, loss, loop, work, fingerprint(config), on_checkpoint=save)
    return scores


def main(argv: list[str] | None = None) -> None:
    run_command(train, "imagebind", argv)


if __name__ == "__main__":
    main()
