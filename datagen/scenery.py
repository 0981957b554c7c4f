"""The six places of Toyland and what its four weathers add, on a canvas of CANVAS pixels."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .drawing import CANVAS, Brush, Tones, gradient, mix, shift_hue

SKIES = {  # top, horizon
    "meadow": ((96, 186, 240), (206, 236, 246)),
    "beach": ((70, 190, 232), (196, 240, 240)),
    "desert": ((250, 176, 120), (255, 226, 170)),
    "mountains": ((140, 160, 232), (230, 220, 246)),
    "city": ((150, 196, 226), (250, 226, 214)),
    "forest": ((150, 212, 176), (222, 242, 200)),
}


def paint_sky(background: str, tones: Tones, rng: np.random.Generator) -> Image.Image:
    """The empty sky of a place: a gradient."""
    turn = rng.uniform(-8, 8)
    top, bottom = (tones(shift_hue(colour, turn), "sky") for colour in SKIES[background])
    return gradient(top, mix(top, bottom, 0.9))


def _hill(brush, y, tilt, colour, role="ground"):
    """Ground filling the canvas below a gentle curve."""
    x = np.linspace(-10, CANVAS + 10, 13)
    curve = y + tilt * np.sin((x / CANVAS - 0.5) * np.pi)
    brush.shape(
        [*zip(x, curve, strict=True), (CANVAS + 10, CANVAS + 10), (-10, CANVAS + 10)], colour, smooth=0, role=role
    )


def _meadow(brush, rng, turn):
    _hill(brush, 140 + rng.uniform(-6, 6), 16, shift_hue((132, 196, 96), turn), "far")
    _hill(brush, 172 + rng.uniform(-6, 6), -14, shift_hue((164, 214, 84), turn))
    for x, y, petals in (
        (24, 206, (255, 252, 244)),
        (232, 214, (250, 130, 150)),
        (66, 238, (250, 214, 70)),
        (190, 242, (255, 252, 244)),
    ):
        x, y = x + rng.uniform(-8, 8), y + rng.uniform(-5, 5)
        brush.ellipse(x, y, 13, 12, petals, line=False)
        brush.ellipse(x, y, 5, 5, (244, 166, 40), line=False)


def _beach(brush, rng, turn):
    sea = 138 + rng.uniform(-5, 5)
    brush.box(-10, sea, CANVAS + 10, CANVAS, shift_hue((24, 150, 204), turn), role="far")
    _hill(brush, sea + 44, 10, (255, 255, 250), "ground")
    _hill(brush, sea + 56, 10, shift_hue((250, 222, 158), turn))
    x = 34 + rng.uniform(-8, 8)
    brush.stroke([(x, 214), (x + 6, 130)], 9, (150, 104, 66))
    brush.shape([(x - 50, 140), (x - 26, 92), (x + 4, 82), (x + 36, 92), (x + 62, 136)], (240, 96, 84), smooth=2)
    brush.shape([(x - 14, 137), (x - 4, 90), (x + 10, 90), (x + 26, 136)], (255, 250, 236), smooth=1, line=False)


def _desert(brush, rng, turn):
    _hill(brush, 150 + rng.uniform(-6, 6), -18, shift_hue((236, 152, 96), turn), "far")
    for x, y, height in ((30 + rng.uniform(-6, 8), 204, 84), (230 + rng.uniform(-8, 6), 192, 62)):
        green = shift_hue((62, 140, 92), turn)
        brush.stroke(
            [(x - 22, y - height * 0.62), (x - 22, y - height * 0.4), (x, y - height * 0.34)], 12, green, role="far"
        )
        brush.stroke(
            [(x + 21, y - height * 0.74), (x + 21, y - height * 0.5), (x, y - height * 0.44)], 12, green, role="far"
        )
        brush.stroke([(x, y - height), (x, y)], 19, green, role="far")
    _hill(brush, 184 + rng.uniform(-6, 6), 14, shift_hue((246, 196, 124), turn))


def _mountains(brush, rng, turn):
    for x, top, half in ((44, 84, 92), (214, 74, 96), (132, 104, 84)):
        x, top = x + rng.uniform(-8, 8), top + rng.uniform(-6, 6)
        base, cap = 196, 0.34
        rock = shift_hue((112, 116, 172) if top < 95 else (138, 140, 194), turn)
        brush.shape([(x - half, base), (x, top), (x + half, base)], rock, smooth=0, role="far")
        low = top + (base - top) * cap
        snow = [
            (x, top),
            (x + half * cap, low),
            (x + half * cap * 0.3, low - 9),
            (x - half * cap * 0.25, low + 7),
            (x - half * cap, low),
        ]
        brush.shape(snow, (250, 250, 255), smooth=0, role="far", line=False)
    _hill(brush, 186 + rng.uniform(-5, 5), 8, shift_hue((112, 160, 122), turn))


def _city(brush, rng, turn):
    walls = ((236, 186, 150), (188, 150, 196), (150, 178, 208), (232, 204, 140), (214, 150, 150))
    for i, (wall, top) in enumerate(zip(walls, (94, 124, 112, 130, 88), strict=True)):
        x, top = i * 52 - 2, top + rng.uniform(-8, 8)
        brush.box(x, top, x + 52, 230, shift_hue(wall, turn), role="far")
        brush.shape(
            [(x - 2, top + 2), (x + 26, top - 28), (x + 54, top + 2)],
            shift_hue((172, 84, 82), turn),
            smooth=0,
            role="far",
        )
        for row in (14, 58):
            window = (255, 226, 120) if brush.tones.weather == "night" else (92, 116, 158)
            role = "light" if brush.tones.weather == "night" else "far"
            brush.box(x + 17, top + row, x + 36, top + row + 26, window, radius=3, role=role, line=False)
    brush.box(-10, 200 + rng.uniform(-3, 3), CANVAS + 10, CANVAS + 10, (150, 146, 160), role="ground")
    for x in (-4, 92, 188):
        brush.box(x, 228, x + 56, 237, (250, 244, 226), radius=4, role="ground", line=False)


def _forest(brush, rng, turn):
    leaves = shift_hue((70, 142, 92), turn)
    _hill(brush, 136, 8, leaves, "far")
    for x, y in ((20, 112), (76, 124), (132, 116), (188, 126), (240, 110)):
        x, y = x + rng.uniform(-6, 6), y + rng.uniform(-6, 6)
        brush.box(x - 9, y, x + 9, 215, (122, 82, 62), role="far", line=False)
        crown = leaves if y < 118 else shift_hue((46, 112, 84), turn)
        brush.shape(
            [(x - 54, y + 40), (x - 30, y - 14), (x, y - 62), (x + 30, y - 14), (x + 54, y + 40)],
            crown,
            smooth=2,
            role="far",
        )
    _hill(brush, 196 + rng.uniform(-5, 5), -10, shift_hue((84, 124, 70), turn))


PLACES = {
    "meadow": _meadow,
    "beach": _beach,
    "desert": _desert,
    "mountains": _mountains,
    "city": _city,
    "forest": _forest,
}


def paint_land(canvas: Image.Image, background: str, tones: Tones, rng: np.random.Generator) -> None:
    """Everything of a place below the sky."""
    PLACES[background](Brush(canvas, tones, "ground"), rng, rng.uniform(-7, 7))


def paint_sky_sign(canvas: Image.Image, tones: Tones, side: int, rng: np.random.Generator) -> None:
    """Sun, cloud, or moon and stars, mostly on one side (-1 left, 1 right) of the sky."""
    brush = Brush(canvas, tones, "light")
    x, y = 128 + side * (88 + rng.uniform(-6, 6)), 44 + rng.uniform(-5, 5)
    if tones.weather == "sunny":
        _star(brush, x, y, 58, (255, 238, 140), tips=10, inner=0.66, line=True)
        brush.ellipse(x, y, 31, 31, (255, 200, 40), line=False)
    elif tones.weather == "night":
        for dx, dy, r in ((70, -14, 8), (118, 12, 9), (168, -10, 8)):
            _star(brush, x - side * dx, y + dy, 1.5 * r, (255, 240, 180), tips=5, inner=0.5)
        brush.ellipse(x, y, 36, 36, (255, 244, 196), line=False)
        brush.ellipse(x - 9, y - 6, 9, 9, (232, 214, 160), line=False)
    elif tones.weather == "rain":
        for left, top, size in ((x, y - 6, 1.0), (x - side * 140, y - 16, 0.8)):
            _cloud(brush, left, top, size, (84, 92, 126))


def _star(brush, x, y, radius, colour, tips, inner, line=False):
    """A star whose notches lie at `inner` of its radius."""
    angle = np.arange(2 * tips) * np.pi / tips
    reach = np.where(np.arange(2 * tips) % 2, inner * radius, radius)
    brush.shape(np.stack([x + reach * np.sin(angle), y - reach * np.cos(angle)], 1), colour, smooth=0, line=line)


def _cloud(brush, x, y, size, colour):
    for dx, dy, r in ((-40, 8, 22), (40, 8, 24), (0, -4, 32)):
        brush.ellipse(x + dx * size, y + dy * size, r * size, r * size, colour, line=False)
    brush.box(x - 56 * size, y + 4 * size, x + 60 * size, y + 32 * size, colour, radius=14, line=False)


def falling_marks(weather: str, rng: np.random.Generator) -> tuple[Image.Image, Image.Image] | None:
    """Alpha masks of the rain strokes or snow flakes (behind, in front of the subject); None in dry weather.

    A regular lattice of 16 with one phase for all: independent positions would be noise to a small network.
    """
    if weather not in ("rain", "snow"):
        return None
    phase = rng.uniform(-14, 14, 2)
    behind, front = Image.new("L", (CANVAS, CANVAS)), Image.new("L", (CANVAS, CANVAS))
    for index in range(16):
        row, column = divmod(index, 4)
        x = 32 + 64 * column + (32 if row % 2 else 0) - 16 + phase[0]
        y = 30 + 64 * row + phase[1]
        draw = ImageDraw.Draw(front if (row + column) % 2 else behind)
        if weather == "snow":
            draw.ellipse((x - 10, y - 10, x + 10, y + 10), fill=255)
        else:
            draw.line((x + 9, y - 22, x - 9, y + 22), fill=235, width=9)
    blur = ImageFilter.BoxBlur(1)
    return behind.filter(blur), front.filter(blur)


def mark_colour(tones: Tones):
    """Colour of the rain strokes or snow flakes as painted."""
    if tones.weather == "rain":
        return (88, 104, 170) if tones.style == "ink" else tones((206, 232, 255), "light")
    return (255, 255, 255)
