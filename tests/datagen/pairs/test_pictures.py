"""Stages 2 to 4 on small random networks: painting, filtering, streaming and the page, stopped and resumed."""

from collections import Counter

import numpy as np
import pytest
import torch
from any2pix.datagen.embedder import load_embedder
from any2pix.datagen.pairs import captions as captions_stage
from any2pix.datagen.pairs import filter as pair_filter
from any2pix.datagen.pairs import pictures as pictures_stage
from any2pix.datagen.pairs import sheet
from any2pix.datagen.pairs.alignment import align
from any2pix.datagen.pairs.arguments import part_of, positive
from any2pix.datagen.pairs.filter import Thresholds, choose, filter_shards
from any2pix.datagen.pairs.painter import Painter, from_pipeline, load_painter
from any2pix.datagen.pairs.pictures import PaintOptions, paint_pair, paint_shards
from any2pix.datagen.pairs.prompt_to_prompt import sample_pairs
from any2pix.datagen.pairs.shards import ShardFolder, stream
from any2pix.datagen.pairs.sheet import write_sheet
from any2pix.models.diffusion import Conditioning, DiffusionDims
from any2pix.stages.similarity import Embedder, Similarity, clip_embedder, measure, patch_similarity
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
)  # fmt: skip

LENGTH = 12
LOOSE = ("--image-image", "-1", "--image-caption", "-1", "--direction", "-1")
WORDS = ["<|startoftext|>", "<|endoftext|>", "a", "cat", "dog", "at", "night", "in", "the", "rain"]
OPTIONS = PaintOptions(candidates=3, at_once=2, steps=2)
RECORD = {"source": "a cat in the rain", "instruction": "make it a dog", "edited": "a dog in the rain"}


@pytest.fixture
def painter():
    """Words are tokens, vectors and pooled texts random."""
    torch.manual_seed(0)
    table = torch.randn(len(WORDS), 16)
    unet = UNet2DConditionModel.from_config(
        DiffusionDims((32, 64), (0, 1), 1, 32, 16, 8, sample_size=8).unet_config()
    ).eval()

    def token_ids(text):
        return [0, *(WORDS.index(word) for word in text.split()), 1]

    def encode(texts):
        rows = [token_ids(text) + [1] * LENGTH for text in texts]
        context = torch.stack([table[row[:LENGTH]] for row in rows])
        return Conditioning(context, context.mean(1)[:, :8])

    return Painter(unet, DDIMScheduler(clip_sample=False), encode, token_ids, lambda z: z[:, :3].sigmoid(), (4, 8, 8))


@pytest.fixture
def captions(tmp_path):
    shards = ShardFolder(tmp_path / "captions", "captions", ".jsonl")
    long = {**RECORD, "edited": "a " * LENGTH + "cat"}
    same = {**RECORD, "edited": RECORD["source"]}
    rows = {0: [RECORD, long], 1: [{**RECORD, "edited": "a cat at night"}, same]}
    shards.run(rows, lambda index, counts: iter(rows[index]))
    return shards


def embedder():
    """Mean colours as the space of pictures, the words as directions in it."""

    def pictures(images):
        return torch.stack([torch.tensor(np.array(image), dtype=torch.float32).mean((0, 1)) for image in images])

    def texts(lines):
        return torch.tensor([[float(len(line)), line.count("a"), line.count("t")] for line in lines])

    return Embedder(pictures, texts, lambda images: pictures(images)[:, None])


def painted(captions, folder, painter, **changes):
    shards = ShardFolder(folder, "pictures", ".tar")
    return shards, paint_shards(captions, shards, captions.finished(), painter, OPTIONS)


def test_candidates_come_out_again_for_a_seed_and_differ_among_themselves(painter):
    first, again = (list(paint_pair(painter, RECORD, OPTIONS, 7)) for _ in range(2))
    assert len(first) == 3 and len({found["seed"] for found in first}) == 3
    assert all(0.1 <= found["share"] <= 0.9 and 7.5 <= found["guidance"] <= 15 for found in first)
    for one, other in zip(first, again, strict=True):
        assert one["pictures"][0].tobytes() == other["pictures"][0].tobytes()
        assert one["pictures"][0].tobytes() != one["pictures"][1].tobytes()


def test_weights_of_a_record_reach_the_attention(painter):
    weighted = {**RECORD, "weights": {"the rain": 5.0}}
    options = PaintOptions(candidates=1, at_once=1, steps=2, shares=(1.0, 1.0))
    plain_pair, changed = (next(paint_pair(painter, record, options, 7))["pictures"] for record in (RECORD, weighted))
    assert plain_pair[0].tobytes() == changed[0].tobytes() and plain_pair[1].tobytes() != changed[1].tobytes()


def test_weights_of_words_that_are_not_there_are_a_counted_drop(painter, tmp_path):
    shards = ShardFolder(tmp_path / "captions", "captions", ".jsonl")
    records = [{**RECORD, "weights": {"night": 2.0}}, {**RECORD, "weights": {"dog": 2.0}}, RECORD]
    shards.run([0], lambda index, counts: iter(records))
    pictures, totals = painted(shards, tmp_path / "pictures", painter)
    assert totals == {"kept": 6, "weights of words not in the edited caption": 3}
    assert [sample["json"].get("weights") for sample in pictures.read(0)] == [{"dog": 2.0}] * 3 + [None] * 3


def test_a_share_of_the_steps_is_a_share():
    for shares in ((0.5, 1.5), (-0.1, 0.5), (0.9, 0.1)):
        with pytest.raises(ValueError, match="within 0 and 1"):
            PaintOptions(shares=shares)


def test_stages_stop_resume_and_count(painter, captions, tmp_path, monkeypatch):
    whole, totals = painted(captions, tmp_path / "whole", painter)
    assert totals == {"kept": 6, "too many tokens": 3, "the same tokens": 3}
    decode, calls = painter.decode, []

    def stopping(latents):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return decode(latents)

    painter.decode = stopping
    with pytest.raises(KeyboardInterrupt):
        painted(captions, tmp_path / "stopped", painter)
    painter.decode = decode
    stopped, resumed = painted(captions, tmp_path / "stopped", painter)
    assert resumed == totals
    for index in (0, 1):
        assert whole.path(index).read_bytes() == stopped.path(index).read_bytes()
    samples = list(whole.read(0))
    assert [sample["__key__"] for sample in samples] == [f"000000000_{i:03d}" for i in range(3)]
    assert samples[0]["source.png"].size == (8, 8) and samples[0]["json"]["instruction"] == "make it a dog"


def test_filter_keeps_the_best_and_the_page_shows_them(painter, captions, tmp_path):
    pictures, _ = painted(captions, tmp_path / "pictures", painter)
    shards = ShardFolder(tmp_path / "pairs", "filter", ".tar")
    totals = filter_shards(pictures, shards, [0, 1], embedder(), Thresholds(-1, -1, -1, best=1))
    assert totals == {"kept": 2, "not among the best": 4}
    kept = next(shards.read(0))["json"]["similarity"]["direction"]
    everything = [(sample["source.png"], sample["edited.png"]) for sample in pictures.read(0)]
    assert kept == max(found.direction for found in measure(embedder(), everything, RECORD["source"], RECORD["edited"]))
    assert write_sheet(shards, tmp_path / "sheet.html", 5) == 2
    page = (tmp_path / "sheet.html").read_text()
    assert page.count("data:image/png") == 4 and "make it a dog" in page and "4 not among the best" in page
    nothing = filter_shards(
        pictures, ShardFolder(tmp_path / "none", "filter", ".tar"), [0], embedder(), Thresholds(image_image=2)
    )
    assert nothing == {"image-image below threshold": 3, "caption pairs without a picture pair": 1}


def test_a_trainer_streams_the_shards(painter, captions, tmp_path):
    pytest.importorskip("datasets", reason="comes with the [train] extra")
    pictures, _ = painted(captions, tmp_path / "pictures", painter)
    rows = list(stream(tmp_path / "pictures", "pictures").shuffle(seed=0, buffer_size=4))
    assert len(rows) == 6 and {row["json"]["pair"] for row in rows} == {0, 100_000}
    for row, sample in zip(
        stream(tmp_path / "pictures", "pictures"), [*pictures.read(0), *pictures.read(1)], strict=True
    ):
        assert row["edited.png"].convert("RGB").tobytes() == sample["edited.png"].tobytes()
    with pytest.raises(FileNotFoundError, match="Run that stage first"):
        stream(tmp_path)


@pytest.mark.parametrize(
    "numbers, reason",
    [
        ((0.75, 0.2, 0.2, 0.2), ""),
        ((0.74, 0.2, 0.2, 0.2), "image-image"),
        ((0.75, 0.19, 0.2, 0.2), "source image-caption"),
        ((0.75, 0.2, 0.19, 0.2), "edited image-caption"),
        ((0.75, 0.2, 0.2, 0.19), "direction"),
        ((0.75, 0.2, 0.2, float("nan")), "direction"),
    ],
)
def test_published_thresholds(numbers, reason):
    assert Thresholds().reason(Similarity(*numbers)).startswith(reason) and bool(reason) == bool(
        Thresholds().reason(Similarity(*numbers))
    )


def test_the_best_are_those_of_the_clearest_direction():
    counts = Counter()
    found = [Similarity(0.9, 0.3, 0.3, direction) for direction in (0.3, 0.1, 0.5, 0.4)]
    assert choose(found, Thresholds(best=2), counts) == [2, 3]
    assert counts == {"direction below threshold": 1, "not among the best": 1}


def test_similarities_are_the_cosines_they_are_called():
    vectors = iter([torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[5.0, 0.0], [0.0, 7.0]])])
    spoken = Embedder(lambda images: next(vectors), lambda texts: next(vectors), None)
    (found,) = measure(spoken, [(None, None)], "a", "b")
    assert found == Similarity(0.0, 1.0, 1.0, pytest.approx(1.0))


def test_patches_are_compared_place_by_place():
    """Of two patches one is the same and one at a right angle; swapped, none is."""
    first = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    for second, expected in ((torch.tensor([[5.0, 0.0], [7.0, 0.0]]), 0.5), (first.flip(0), 0.0)):
        seen = Embedder(None, None, lambda images, second=second: torch.stack([first, second]))
        assert patch_similarity(seen, None, None) == pytest.approx(expected)


def test_the_patches_of_the_miniature_imagebind_know_where_something_is():
    """A mark in one corner: the patches there change more than any in the opposite corner."""
    plain = np.full((128, 128, 3), 200, np.uint8)
    marked = plain.copy()
    marked[:32, :32] = (200, 0, 0)
    before, after = load_embedder("miniature").patches([Image.fromarray(plain), Image.fromarray(marked)])
    side = int(len(before) ** 0.5)
    changed = 1 - torch.nn.functional.cosine_similarity(before, after, dim=-1).reshape(side, side)
    assert changed[:2, :2].min() > changed[-2:, -2:].max()


def test_the_miniature_imagebind_knows_what_a_picture_shows():
    from any2pix.datagen.toyland import Scene, caption, render

    scenes = [Scene("beach", "car", "sunny", "flat", 5), Scene("beach", "car", "night", "flat", 5)]
    before, after = (Image.fromarray(render(scene)) for scene in scenes)
    right, wrong = (
        measure(load_embedder("miniature"), [pair], *map(caption, scenes))[0]
        for pair in ((before, after), (after, before))
    )
    assert right.direction > 0.2 > 0 > wrong.direction
    assert right.source_caption > wrong.source_caption and right.image_image == pytest.approx(wrong.image_image)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "a"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single=f"{WORDS[0]} $A {WORDS[1]}", special_tokens=[(WORDS[0], 0), (WORDS[1], 1)]
    )
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=WORDS[0], eos_token=WORDS[1], pad_token=WORDS[1], model_max_length=LENGTH
    )


def text_config(**changes):
    sizes = {
        "vocab_size": len(WORDS),
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    return {
        **sizes,
        "max_position_embeddings": LENGTH,
        "projection_dim": 8,
        "bos_token_id": 0,
        "eos_token_id": 1,
        **changes,
    }


@pytest.fixture(params=["SD", "SDXL"])
def pipeline(request, tokenizer):
    """A small random pipeline of diffusers."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(32,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
    )
    sizes = {
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "sample_size": 8,
    }
    scheduler = DDIMScheduler(clip_sample=False, steps_offset=1)
    if request.param == "SD":
        unet = UNet2DConditionModel(**sizes, cross_attention_dim=16, attention_head_dim=4)
        encoder = CLIPTextModel(CLIPTextConfig(**text_config()))
        return StableDiffusionPipeline(
            vae, encoder, tokenizer, unet, scheduler, None, None, requires_safety_checker=False
        )
    unet = UNet2DConditionModel.from_config(DiffusionDims((32, 64), (0, 1), 1, 32, 32, 8, sample_size=8).unet_config())
    first, second = (
        CLIPTextModel(CLIPTextConfig(**text_config())),
        CLIPTextModelWithProjection(CLIPTextConfig(**text_config())),
    )
    return StableDiffusionXLPipeline(vae, first, second, tokenizer, tokenizer, unet, scheduler)


def test_any_diffusers_pipeline_paints(pipeline):
    painter = from_pipeline(pipeline)
    (found,) = paint_pair(painter, RECORD, PaintOptions(candidates=1, at_once=1, steps=2), 3)
    assert [picture.size for picture in found["pictures"]] == [(64, 64), (64, 64)]
    assert painter.token_ids("a cat") == [0, 2, 3, 1]
    with pytest.raises(ValueError, match="multiple of 16"):
        from_pipeline(pipeline, 10)


def test_without_injection_each_picture_is_the_pipelines_own(pipeline):
    """The same latents as diffusers paints of each caption alone, from the same noise."""
    painter, noise = from_pipeline(pipeline), torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    texts = [RECORD["source"], RECORD["edited"]]
    ids = [painter.token_ids(text) for text in texts]
    found = sample_pairs(
        painter.unet, painter.scheduler, painter.encode(["", *texts]), align(*ids, LENGTH, "swap"), noise,
        torch.zeros(1),
        torch.tensor([3.0]), 4,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    for latent, text in zip(found[0], texts, strict=True):
        expected = pipeline(text, latents=noise, guidance_scale=3.0, num_inference_steps=4, output_type="latent").images
        torch.testing.assert_close(latent[None], expected, rtol=1e-4, atol=1e-4)


def test_clip_through_transformers_gives_its_own_features(tokenizer):
    torch.manual_seed(0)
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 8,
        "patch_size": 4,
    }
    model = CLIPModel(CLIPConfig(text_config=text_config(), vision_config=vision, projection_dim=8)).eval()
    images = CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8})
    holder = type("Processor", (), {"image_processor": images, "tokenizer": tokenizer})
    found = clip_embedder(model, holder)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 8, 3), dtype=np.uint8))
    with torch.no_grad():
        joined = model(
            input_ids=torch.tensor([[0, 2, 3, 1], [0, 2, 1, 1]]), attention_mask=torch.tensor([[1, 1, 1, 1], [1, 1, 1,
            0]]),
            pixel_values=images(images=[picture], return_tensors="pt").pixel_values,
        )  # fmt: skip
    torch.testing.assert_close(torch.nn.functional.normalize(found.pictures([picture])), joined.image_embeds)
    torch.testing.assert_close(torch.nn.functional.normalize(found.texts(["a cat", "a"])), joined.text_embeds)
    patches = found.patches([picture])
    assert patches.shape == (1, 4, 16)
    torch.testing.assert_close(patches, joined.vision_model_output.last_hidden_state[:, 1:])


def test_parts_share_the_shards():
    assert part_of("2/8") == (2, 8)
    with pytest.raises(Exception, match="K from 0"):
        part_of("8/8")
    assert positive("3") == 3
    for text in ("0", "-1", "many"):
        with pytest.raises(Exception, match="at least 1"):
            positive(text)


def test_a_stage_without_the_one_before_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="Run the stage before"):
        pair_filter.main(["--pictures", str(tmp_path / "nothing"), "--out", str(tmp_path / "out")])


def test_a_model_to_paint_with_that_is_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither model_index.json nor text_unet.safetensors"):
        load_painter(tmp_path)


def test_all_commands_in_a_row(tmp_path):
    """On the miniature, few steps and no thresholds; run again they find all done."""
    places = {name: str(tmp_path / name) for name in ("captions", "pictures", "pairs")}
    lines = (
        (captions_stage, ["--toyland", "3", "--shard-size", "2", "--out", places["captions"]]),
        (pictures_stage, ["--captions", places["captions"], "--candidates", "2", "--steps", "2", "--out",
        places["pictures"]]),
        (pair_filter, ["--pictures", places["pictures"], "--out", places["pairs"], "--best", "1", *LOOSE]),
    )  # fmt: skip
    totals = [stage.main(line) for stage, line in lines]
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tar")}
    assert totals == [stage.main(line) for stage, line in lines]
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tar")}
    assert totals[0]["kept"] == 3 and totals[1]["kept"] == 6 and totals[2] == {"kept": 3, "not among the best": 3}
    page = tmp_path / "sheet.html"
    assert sheet.main(["--pairs", places["pairs"], "--out", str(page)]) == 3 and page.read_text().count("<figure>") == 3


def test_a_larger_share_keeps_more_of_the_layout():
    """On the trained miniature: the edited picture comes closer to the source, step by step of p."""
    painter = load_painter("miniature")
    records = [
        {
            "source": "a cat in the meadow in the sun, flat style",
            "edited": "a robot in the meadow in the sun, flat style",
        },
        {"source": "a car on the beach in the sun, flat style", "edited": "a car on the beach at night, flat style"},
    ]
    distances = []
    for share in (0.0, 0.5, 1.0):
        options = PaintOptions(candidates=4, at_once=4, steps=6, shares=(share, share), guidance=(3.0, 3.0))
        found = [candidate["pictures"] for record in records for candidate in paint_pair(painter, record, options, 11)]
        gaps = [
            np.abs(np.asarray(a, dtype=float).mean(-1) - np.asarray(b, dtype=float).mean(-1)).mean() for a, b in found
        ]
        distances.append(float(np.mean(gaps)))
    assert distances[0] > distances[1] > distances[2] > 0
