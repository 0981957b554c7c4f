"""The brush, the colour treatment of weather and style, and the mess of an unclean drawing.

Everything is painted on a canvas of CANVAS pixels and shown at half that size, which smooths the edges.
Weather and style are mostly colour maps applied as each shape is painted, so shapes never move with them.
"""

import colorsys
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 128  # pixels of the finished picture
CANVAS = 256  # pixels painted
INK_LINE = 7  # canvas pixels: about 3.5 in the finished picture, what an 8x autoencoder still keeps
RIM = 8  # canvas pixels of paper left around a subject, as on a cut-out

Colour = tuple[int, int, int]

PAPER = (255, 247, 232)
INK_DARK, INK_PAPER = (34, 38, 84), (250, 238, 212)
NIGHT_DARK, NIGHT_PAPER = (18, 20, 52), (206, 204, 206)

# (colour mixed in, share) of each weather by the part of the picture it falls on.
WEATHER_TINTS = {
    "sunny": {"sky": ((255, 240, 190), 0.15), "far": ((255, 226, 150), 0.10), "ground": ((255, 226, 140), 0.12)},
    "rain": {
        "sky": ((112, 134, 168), 0.74),
        "far": ((84, 106, 144), 0.40),
        "ground": ((78, 102, 140), 0.34),
        "subject": ((80, 100, 140), 0.12),
    },
    "snow": {"sky": ((150, 172, 208), 0.80), "far": ((214, 226, 244), 0.42), "ground": ((246, 249, 255), 0.86)},
    "night": {
        "sky": ((20, 26, 84), 0.86),
        "far": ((18, 24, 80), 0.62),
        "ground": ((18, 28, 84), 0.54),
        "subject": ((40, 46, 120), 0.22),
    },
}


def mix(a, b, share: float) -> Colour:
    """Colour a with `share` (0..1) of colour b in it."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))


def luminance(colour) -> float:
    """Rec. 601 luma, 0..255."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def shift_hue(colour, degrees: float, gain: float = 1.0) -> Colour:
    """Turn a colour around the wheel by `degrees` and scale its brightness by `gain`."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(x / 255 for x in colour))
    turned = colorsys.hsv_to_rgb((hue + degrees / 360) % 1.0, saturation, min(1.0, value * gain))
    return tuple(round(255 * x) for x in turned)


@dataclass(frozen=True)
class Tones:
    """Colour map of one weather and one style."""

    weather: str
    style: str

    def __call__(self, colour, role: str) -> Colour:
        """Colour of a part in daylight -> colour as painted. Roles: sky, far, ground, subject, light (unweathered)."""
        tint = WEATHER_TINTS[self.weather].get(role)
        if tint:
            colour = mix(colour, *tint)
        if self.style == "flat":
            return tuple(round(x) for x in colour)
        if self.style == "pastel":
            grey = luminance(colour)
            soft = mix(colour, (grey, grey, grey), 0.25)
            return mix(soft, PAPER, 0.28 if self.weather == "night" else 0.44)
        return self._ink(luminance(colour) / 255, role)

    def _ink(self, light: float, role: str) -> Colour:
        """Duotone; scenery is a pale wash by day so that the subject stands out in full contrast."""
        if self.weather == "night":
            return mix(NIGHT_DARK, NIGHT_PAPER, min(1.0, light * (1.6 if role == "subject" else 1.25)))
        if role in ("sky", "far", "ground"):
            wash = {"rain": 0.34, "snow": 0.36 if role == "ground" else 0.18}.get(self.weather, 0.42)
            light = wash + 0.68 * light
        elif role == "subject":
            light = 1.35 * light - 0.05  # most of their colours are of middle lightness
        else:
            light += 0.12  # the sun is bare paper
        return mix(INK_DARK, INK_PAPER, min(1.0, max(0.0, light)))

    def line(self, role: str) -> Colour | None:
        """Colour of the ink lines around shapes; None where the style has none. By night they are chalk on dark paper.

        Those of the scenery are thinned ink, so that the subject stays the first thing seen.
        """
        if self.style != "ink":
            return None
        line, paper = ((196, 200, 222), NIGHT_DARK) if self.weather == "night" else (INK_DARK, INK_PAPER)
        return mix(line, paper, 0.0 if role == "subject" else 0.45)

    @property
    def rim(self) -> Colour:
        """Colour of the band around the subject."""
        if self.style == "ink":
            return NIGHT_DARK if self.weather == "night" else INK_PAPER
        return mix(PAPER, (60, 66, 130), 0.25) if self.weather == "night" else PAPER


class Brush:
    """Paints shapes given in units of `scale` canvas pixels around `origin`, y downwards."""

    def __init__(self, image: Image.Image, tones: Tones, role: str, origin=(0.0, 0.0), scale=1.0):
        self.draw = ImageDraw.Draw(image)
        self.tones, self.role, self.origin, self.scale = tones, role, origin, scale

    def _points(self, points) -> list[tuple[float, float]]:
        return [(self.origin[0] + x * self.scale, self.origin[1] + y * self.scale) for x, y in points]

    def ellipse(self, x, y, rx, ry, colour, role=None, line=True) -> None:
        box = self._points([(x - rx, y - ry), (x + rx, y + ry)])
        outline = self.tones.line(role or self.role) if line else None
        self.draw.ellipse(box, fill=self.tones(colour, role or self.role), outline=outline, width=INK_LINE)

    def box(self, x0, y0, x1, y1, colour, radius=0.0, role=None, line=True) -> None:
        box = [c for point in self._points([(x0, y0), (x1, y1)]) for c in point]
        outline = self.tones.line(role or self.role) if line else None
        fill = self.tones(colour, role or self.role)
        self.draw.rounded_rectangle(box, radius * self.scale, fill=fill, outline=outline, width=INK_LINE)

    def shape(self, points, colour, smooth=2, role=None, line=True) -> None:
        """A closed polygon, its corners cut `smooth` times (Chaikin)."""
        corners = np.asarray(points, dtype=float)
        for _ in range(smooth):
            following = np.roll(corners, -1, axis=0)
            corners = np.stack([0.75 * corners + 0.25 * following, 0.25 * corners + 0.75 * following], 1).reshape(-1, 2)
        outline = self._points(corners)
        self.draw.polygon(outline, fill=self.tones(colour, role or self.role))
        ink = self.tones.line(role or self.role) if line else None
        if ink:
            self.draw.line([*outline, *outline[:2]], fill=ink, width=INK_LINE, joint="curve")

    def stroke(self, points, width, colour, role=None) -> None:
        """An open line with round ends, `width` in units; in ink it is all line."""
        fill = self.tones.line(role or self.role) or self.tones(colour, role or self.role)
        path = self._points(points)
        self.draw.line(path, fill=fill, width=round(width * self.scale), joint="curve")
        half = width * self.scale / 2
        for x, y in (path[0], path[-1]):
            self.draw.ellipse((x - half, y - half, x + half, y + half), fill=fill)


def gradient(top: Colour, bottom: Colour) -> Image.Image:
    """CANVAS x CANVAS picture running from `top` to `bottom`."""
    column = np.linspace(np.asarray(top, dtype=float), bottom, CANVAS).round().astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(column[:, None], (CANVAS, CANVAS, 3))))


def grown(alpha: Image.Image) -> Image.Image:
    """An alpha channel grown by about RIM canvas pixels, with a soft edge."""
    return alpha.filter(ImageFilter.BoxBlur(RIM)).point(lambda value: min(255, value * 8))


def soften(picture: Image.Image) -> Image.Image:
    """The blurred edges of the pastel style."""
    return picture.filter(ImageFilter.GaussianBlur(1.0))


def mess(picture: Image.Image, amount: float, rng: np.random.Generator) -> Image.Image:
    """Spoil a SIZE x SIZE drawing by `amount` (0 clean .. 1): wobble, misregistration, smudges, washed contrast.

    All of it is of low frequency, so that an autoencoder keeps it.
    """
    picture = picture.transform(
        picture.size, Image.Transform.MESH, _wobble(7.0 * amount, rng), Image.Resampling.BILINEAR
    )
    pixels = np.array(picture, dtype=np.float32)
    shift = rng.uniform(2.5, 4.0) * amount
    for band, x in ((0, shift), (2, -shift)):  # the red and the blue plate, printed beside the green one
        pixels[..., band] = _moved(pixels[..., band], x)
    blots = rng.uniform(0.0, 1.0, (6, 6)).astype(np.float32)
    spread = np.asarray(Image.fromarray(blots).resize(picture.size, Image.Resampling.BICUBIC))[..., None]
    smudge = np.clip((spread - 0.45) * 1.6, 0.0, 0.7) * amount
    pixels += (np.array([112.0, 96.0, 84.0], dtype=np.float32) - pixels) * smudge
    pixels += (pixels.mean((0, 1)) - pixels) * (0.35 * amount)
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


def _moved(plate: np.ndarray, x: float) -> np.ndarray:
    """(H, W) moved to the left by `x` pixels, its border column repeated."""
    whole, part = int(np.floor(x)), x - np.floor(x)
    columns = np.arange(plate.shape[1]) + whole
    last = plate.shape[1] - 1
    return plate[:, columns.clip(0, last)] * (1 - part) + plate[:, (columns + 1).clip(0, last)] * part


def _wobble(reach: float, rng: np.random.Generator, cells: int = 5):
    """Mesh for Image.transform: the inner corners of a cells x cells grid displaced by up to `reach` pixels."""
    lines = np.linspace(0, SIZE, cells + 1)
    corners = np.stack(np.meshgrid(lines, lines), -1)
    corners[1:-1, 1:-1] += rng.uniform(-reach, reach, (cells - 1, cells - 1, 2))
    edge = lines.round().astype(int)
    mesh = []
    for row in range(cells):
        for column in range(cells):
            target = (edge[column], edge[row], edge[column + 1], edge[row + 1])
            quad = [
                corners[row, column],
                corners[row + 1, column],
                corners[row + 1, column + 1],
                corners[row, column + 1],
            ]
            mesh.append((tuple(map(int, target)), tuple(float(c) for corner in quad for c in corner)))
    return mesh
