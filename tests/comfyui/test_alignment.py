"""A picture of any size and shape keeps its pixels where they are: what an edit leaves alone lines up with the source.

Without an edit to an eighth of a pixel, under a mask to a few tenths. Without a mask the UNet paints everything anew,
and the miniature's has learnt 128 x 128 alone: in one scene what it repaints may lie half a pixel off either way, over
several it does not, so a whole edit is measured over several. InstructPix2Pix's edits of whole pictures are weak ones,
and found to a quarter of a latent place: at sizes that it has not learnt the miniature invents some of the place, and
where a side is short all of it.
"""

import io

import numpy as np
import pytest
from any2pix.datagen.toyland import TEST_SEEDS_FROM, Scene, render
from harness.edit_graph import node
from harness.graphs import with_inputs
from harness.pix2pix_graph import text_edit
from PIL import Image

CITIES = [Scene("city", "none", "sunny", "ink", TEST_SEEDS_FROM + n) for n in (3, 4, 5, 6)]  # lines in every corner
LATENT_STEP = 8  # pixels a latent place: VAE Encode trims what is over, the same on both sides
SIZES = [(128, 128), (192, 128), (96, 160), (131, 125), (200, 77)]  # width, height
LARGEST_SHIFT = 0.5  # pixels
IN_PLACE = 0.125
UPSAMPLING = 16  # a shift is found to a sixteenth of a pixel
BLUR = 0.12  # cycles a pixel above which a VAE's reconstruction says little of where things are
WEAK = 1e-3  # of the strongest frequency: what is weaker is noise and counts less
WINDOW, PLACES = 0.35, 5  # side of a window as a share of the picture's, and how many places it has along a side
UNEDITED = 6  # windows that are taken for what the edit left alone; an edit without a mask paints all of them anew
CFG, STEPS = 2.0, 25
BY_TEXT_STEPS = 4
# less of the latter: the miniature invents the place anew
TEXT_GUIDANCE, IMAGE_GUIDANCE = {"whole": 0.5, "masked": 1.0}, 4.0
BY_TEXT_SHIFT = {"whole": LATENT_STEP / 4, "masked": LARGEST_SHIFT}
SHORTEST = 96  # side of a picture of which a whole edit by text leaves the place as it is
HALF, HALVES = 0.5, 3  # windows that find a shift of a latent place even in an unsharp picture
SEEN = 0.02  # mean change of a channel, 1 is white against black


def shift_between(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Phase correlation of two pictures (H, W, 3) of one size -> (down, right) in pixels that ``one`` lies from
    ``other``.

    The normalised cross-power spectrum, low-passed and zero-padded, so that its inverse peaks at the shift in fractions
    of a pixel (Kuglin and Hines 1975; upsampling as Guizar-Sicairos 2008).
    """
    height, width = one.shape[:2]
    window = np.hanning(height)[:, None] * np.hanning(width)
    grey = [(picture.mean(-1) - picture.mean()) * window for picture in (one, other)]
    spectrum = np.fft.fft2(grey[0]) * np.conj(np.fft.fft2(grey[1]))
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    weak = WEAK * np.abs(spectrum).max()
    spectrum = spectrum / (np.abs(spectrum) + weak) * np.exp(-((frequencies / BLUR) ** 2))
    padded = np.zeros((UPSAMPLING * height, UPSAMPLING * width), complex)
    top, left = (padded.shape[0] - height) // 2, (padded.shape[1] - width) // 2
    padded[top : top + height, left : left + width] = np.fft.fftshift(spectrum)
    correlation = np.abs(np.fft.ifft2(np.fft.ifftshift(padded)))
    peak = np.array(np.unravel_index(correlation.argmax(), correlation.shape), float)
    sizes = np.array(correlation.shape)
    return np.where(peak > sizes / 2, peak - sizes, peak) / UPSAMPLING


def source_of(size: tuple[int, int], city: Scene = CITIES[0]) -> np.ndarray:
    """A Toyland city of that width and height, (H, W, 3) in [0, 1]."""
    picture = Image.fromarray(render(city)).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(picture, dtype=np.float32) / 255


def trimmed(picture: np.ndarray) -> np.ndarray:
    """What VAE Encode keeps: the middle, its sides multiples of 8."""
    for axis in (0, 1):
        over = picture.shape[axis] % LATENT_STEP
        picture = picture.take(range(over // 2, picture.shape[axis] - over + over // 2), axis)
    return picture


def as_png(picture: np.ndarray, masked: bool) -> bytes:
    """With a mask its right half is see-through."""
    pixels = (picture * 255).round().astype(np.uint8)
    if masked:
        alpha = np.full(pixels.shape[:2], 255, np.uint8)
        alpha[:, pixels.shape[1] // 2 :] = 0
        pixels = np.dstack([pixels, alpha])
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def windows(
    one: np.ndarray, other: np.ndarray, share: float = WINDOW, places: int = PLACES
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Windows of two pictures, those first whose change is the smallest against what there is to see in them."""
    height, width = (int(share * side) for side in one.shape[:2])
    rows, columns = (
        np.linspace(0, side - size, places).astype(int)
        for side, size in zip(one.shape[:2], (height, width), strict=True)
    )
    cut = [tuple(p[y : y + height, x : x + width] for p in (one, other)) for y in rows for x in columns]
    return sorted(cut, key=lambda pair: np.abs(pair[0] - pair[1]).mean() / pair[1].std())


@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.0, 0.0), (0.0, -0.5), (-2.25, 1.5)])
def test_the_measure_finds_a_shift(shift):
    source = source_of((128, 96))
    phase = np.fft.fftfreq(96)[:, None] * shift[0] + np.fft.fftfreq(128) * shift[1]
    moved = np.fft.ifft2(np.fft.fft2(source, axes=(0, 1)) * np.exp(-2j * np.pi * phase)[..., None], axes=(0, 1)).real
    found = shift_between(moved[:48, :64], source[:48, :64])
    np.testing.assert_allclose(found, shift, atol=0.2)


def result_and_source(client, graph: dict, source: np.ndarray, masked: bool) -> tuple[np.ndarray, np.ndarray]:
    """What a graph makes of a picture, and the part of the picture that VAE Encode keeps: both (H, W, 3), of one
    size."""
    name = client.upload(as_png(source, masked), "aligned.png")
    (result,) = client.pictures(client.run(with_inputs(graph, "picture", image=name)))
    kept = trimmed(source)
    assert result.shape == kept.shape, "stretched, or trimmed otherwise"
    return result, kept


def named(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


@pytest.mark.parametrize("size", SIZES, ids=named)
def test_a_picture_that_nothing_edits_comes_back_where_it_was(size, client, edit):
    """Inverted and painted with its own embedding: what is left are the shifts of the pack, of the samplers and of the
    VAE."""
    edit["sampled"]["inputs"].pop("negative_embedding")
    edit["sampled"]["inputs"] |= {"embedding": ["base", 1], "cfg": 1.0}
    pair = result_and_source(client, edit, source_of(size), masked=False)
    shifts = [shift_between(*window) for window in windows(*pair)]
    assert np.abs(np.median(shifts, axis=0)).max() <= IN_PLACE, shifts


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("size", SIZES, ids=named)
def test_what_is_not_edited_lines_up_with_the_source(size, masked, client, edit):
    if masked:
        edit["masked"] = node("SetLatentNoiseMask", samples=["encoded", 0], mask=["picture", 1])
        edit["inverted"]["inputs"]["latent"] = ["masked", 0]
    edit["sampled"]["inputs"].pop("negative_embedding")  # it would paint away from the source everywhere
    edit["sampled"]["inputs"] |= {"cfg": CFG, "steps": STEPS}
    edit["inverted"]["inputs"]["steps"] = STEPS
    shifts = []
    for city in CITIES[:1] if masked else CITIES:
        result, kept = result_and_source(client, edit, source_of(size, city), masked)
        assert np.abs(result - kept).mean() > SEEN, "the picture did not change"
        shifts += [shift_between(*window) for window in windows(result, kept)[:UNEDITED]]
    assert np.abs(np.median(shifts, axis=0)).max() < LARGEST_SHIFT, shifts


@pytest.mark.parametrize(
    ("size", "extent"),
    [(size, extent) for extent in BY_TEXT_SHIFT for size in SIZES if extent == "masked" or min(size) >= SHORTEST],
    ids=str,
)
def test_an_edit_by_text_lines_up_with_the_source(size, extent, client, object_info):
    """A source that reaches the UNet one latent place off, 8 pixels, is found 7 to 8 pixels off in a whole edit of 192
    x 128; at 128 x 128 the miniature draws it where it always is."""
    masked = extent == "masked"
    graph = with_inputs(text_edit(object_info), "levels", steps=BY_TEXT_STEPS)
    graph = with_inputs(graph, "guider", text_guidance=TEXT_GUIDANCE[extent], image_guidance=IMAGE_GUIDANCE)
    if masked:
        graph["masked"] = node("SetLatentNoiseMask", samples=["pixels", 0], mask=["picture", 1])
        graph = with_inputs(graph, "guider", image=["masked", 0])
    shifts = []
    for city in CITIES[:1] if masked else CITIES:
        result, kept = result_and_source(client, graph, source_of(size, city), masked)
        assert np.abs(result - kept).mean() > SEEN, "the picture did not change"
        places = windows(result, kept)[:UNEDITED] if masked else windows(result, kept, HALF, HALVES)
        shifts += [shift_between(*place) for place in places]
    assert np.abs(np.median(shifts, axis=0)).max() < BY_TEXT_SHIFT[extent], shifts
