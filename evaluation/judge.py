"""The judge of Toyland: it names the attributes of a picture. It reads pictures only, never embeddings or captions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..loading.files import read_network_file
from ..loading.strict import load_strict
from ..models.judge import Judge, JudgeDims

ATTRIBUTES = ("background", "subject", "weather", "style")  # the fields of datagen.toyland.Scene
JUDGE_KIND = "judge"
PICTURE_SIZE = 128


@torch.no_grad()
def probabilities(judge: Judge, pictures: Tensor, batch_size: int = 64) -> list[dict[str, dict[str, float]]]:
    """(B, H, W, 3) in [0, 1] -> for each picture {attribute: {label: probability}}."""
    if pictures.ndim != 4 or pictures.shape[-1] != 3:
        raise ValueError(f"The judge needs pictures of the shape (B, H, W, 3), got {tuple(pictures.shape)}.")
    weight = next(judge.parameters())
    found = []
    for chunk in pictures.split(batch_size):
        x = chunk.movedim(-1, 1).to(weight.device, weight.dtype)
        if x.shape[-2:] != (PICTURE_SIZE, PICTURE_SIZE):
            x = F.interpolate(x, (PICTURE_SIZE, PICTURE_SIZE), mode="bilinear", antialias=True)
        shares = {name: logits.float().softmax(1).tolist() for name, logits in judge(x).items()}
        found += [
            {name: dict(zip(labels, shares[name][i], strict=True)) for name, labels in judge.dims.heads}
            for i in range(len(chunk))
        ]
    return found


def verdicts(judge: Judge, pictures: Tensor, batch_size: int = 64) -> list[dict[str, str]]:
    """(B, H, W, 3) in [0, 1] -> for each picture {attribute: the likeliest label}."""
    return [
        {name: max(shares, key=shares.get) for name, shares in picture.items()}
        for picture in probabilities(judge, pictures, batch_size)
    ]


def scene_labels(scene) -> dict[str, str]:
    """The attributes of a Scene as the judge names them."""
    return {name: getattr(scene, name) for name in ATTRIBUTES}


def load_judge(path) -> Judge:
    """A judge written by `python -m any2pix.training.train_judge`, in eval mode."""
    file = read_network_file(path, JUDGE_KIND)
    judge = Judge(JudgeDims.from_dict(file.dims))
    load_strict(judge, file.state_dict, source=path)
    return judge.float().eval()
