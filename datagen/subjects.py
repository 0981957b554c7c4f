"""The six inhabitants of Toyland, in units where they stand on y = 1 and reach about from x = -1 to 1."""

from .drawing import Brush, shift_hue

BASE_COLOURS = {
    "cat": (246, 146, 40),
    "bird": (44, 104, 222),
    "car": (222, 44, 40),
    "robot": (134, 176, 190),
    "frog": (104, 196, 48),
    "balloon": (226, 62, 150),
}
DARK = (40, 34, 56)
WHITE = (255, 255, 250)


def _cat(brush: Brush, fur) -> None:
    cream, stripe = (255, 232, 196), shift_hue(fur, -8, 0.78)
    brush.shape(
        [(0.2, 1.0), (0.9, 1.05), (1.2, 0.6), (1.0, 0.05), (0.72, 0.1), (0.82, 0.5), (0.6, 0.7), (0.2, 0.6)], stripe
    )
    brush.shape([(-0.72, 1.12), (-0.6, 0.1), (0.0, -0.25), (0.6, 0.1), (0.72, 1.12)], fur)
    brush.ellipse(0, 0.64, 0.3, 0.36, cream, line=False)
    for side in (-1, 1):
        brush.shape([(side * 0.18, -0.62), (side * 0.74, -1.28), (side * 0.84, -0.2)], fur, smooth=1)
        brush.shape(
            [(side * 0.4, -0.6), (side * 0.68, -1.0), (side * 0.72, -0.4)], (250, 170, 160), smooth=1, line=False
        )
    brush.ellipse(0, -0.3, 0.82, 0.58, fur)
    brush.ellipse(0, -0.08, 0.4, 0.3, cream, line=False)
    for side in (-1, 1):
        brush.ellipse(side * 0.38, -0.38, 0.14, 0.19, DARK, line=False)
    brush.shape([(-0.17, -0.2), (0.17, -0.2), (0, 0.04)], (222, 84, 96), smooth=1, line=False)


def _bird(brush: Brush, feathers) -> None:
    wing = shift_hue(feathers, 6, 0.66)
    for x in (-0.12, 0.3):
        brush.stroke([(x, 0.4), (x, 0.92), (x - 0.2, 0.94)], 0.13, (244, 150, 30))
    brush.shape([(0.4, -0.1), (1.14, -0.62), (1.06, 0.1), (0.5, 0.5)], wing, smooth=1)
    brush.shape([(-1.22, -0.56), (-0.5, -0.9), (-0.4, -0.2)], (250, 172, 30), smooth=1)
    brush.shape(
        [(-0.9, -1.1), (-0.1, -1.22), (0.3, -0.5), (1.0, -0.1), (0.7, 0.64), (-0.6, 0.72), (-1.0, 0.0)], feathers
    )
    brush.shape([(-0.82, -0.1), (-0.3, -0.1), (0.1, 0.46), (0.1, 0.62), (-0.6, 0.6)], (255, 236, 190), line=False)
    brush.shape([(-0.2, -0.26), (0.5, -0.42), (1.0, -0.06), (0.5, 0.4), (0.0, 0.28)], wing)
    brush.ellipse(-0.36, -0.6, 0.22, 0.22, WHITE, line=False)
    brush.ellipse(-0.4, -0.6, 0.13, 0.14, DARK, line=False)


def _car(brush: Brush, paint) -> None:
    glass, shade = (186, 228, 246), shift_hue(paint, -6, 0.72)
    brush.shape([(-0.78, 0.3), (-0.6, -0.5), (0.5, -0.5), (0.84, 0.3)], paint, smooth=2)
    brush.shape([(-0.55, 0.14), (-0.46, -0.3), (-0.08, -0.3), (-0.08, 0.14)], glass, smooth=1, line=False)
    brush.shape([(0.1, 0.14), (0.1, -0.3), (0.4, -0.3), (0.58, 0.14)], glass, smooth=1, line=False)
    brush.box(-1.14, 0.1, 1.14, 0.76, paint, radius=0.24)
    brush.box(-1.0, 0.52, 1.0, 0.74, shade, radius=0.1, line=False)
    brush.ellipse(0.98, 0.34, 0.15, 0.14, (255, 226, 110), line=False)
    for x in (-0.62, 0.62):
        brush.ellipse(x, 0.72, 0.33, 0.33, DARK)
        brush.ellipse(x, 0.72, 0.14, 0.14, (236, 232, 224), line=False)


def _robot(brush: Brush, metal) -> None:
    shade, glow = shift_hue(metal, 4, 0.66), (255, 206, 60)
    brush.stroke([(0, -0.8), (0, -1.1)], 0.13, shade)
    brush.ellipse(0, -1.2, 0.17, 0.17, (232, 70, 60), line=False)
    for side in (-1, 1):
        brush.box(min(side * 0.12, side * 0.5), 0.6, max(side * 0.12, side * 0.5), 1.04, shade, radius=0.08)
        brush.box(min(side * 0.66, side * 1.0), 0.02, max(side * 0.66, side * 1.0), 0.62, shade, radius=0.15)
    brush.box(-0.66, -0.16, 0.66, 0.78, metal, radius=0.12)
    brush.box(-0.36, 0.1, 0.36, 0.52, (250, 244, 226), radius=0.08, line=False)
    brush.ellipse(0, 0.31, 0.15, 0.15, (232, 70, 60), line=False)
    brush.box(-0.8, -0.94, 0.8, -0.16, metal, radius=0.16)
    brush.box(-0.62, -0.78, 0.62, -0.34, DARK, radius=0.16, line=False)
    for side in (-1, 1):
        brush.ellipse(side * 0.3, -0.56, 0.15, 0.15, glow, line=False)


def _frog(brush: Brush, skin) -> None:
    shade, belly = shift_hue(skin, 8, 0.74), (236, 244, 166)
    for side in (-1, 1):
        brush.ellipse(side * 0.74, 0.62, 0.4, 0.36, shade)
        brush.ellipse(side * 0.68, 0.92, 0.44, 0.14, skin)
        brush.ellipse(side * 0.52, -0.56, 0.35, 0.36, skin)
    brush.shape([(-1.1, 0.1), (-0.7, -0.66), (0.7, -0.66), (1.1, 0.1), (0.8, 1.12), (-0.8, 1.12)], skin)
    brush.ellipse(0, 0.66, 0.44, 0.34, belly, line=False)
    for side in (-1, 1):
        brush.ellipse(side * 0.52, -0.58, 0.24, 0.25, WHITE, line=False)
        brush.ellipse(side * 0.5, -0.56, 0.13, 0.15, DARK, line=False)
        brush.ellipse(side * 0.7, 0.02, 0.14, 0.1, (246, 150, 130), line=False)
    brush.stroke([(-0.5, 0.0), (-0.26, 0.14), (0, 0.18), (0.26, 0.14), (0.5, 0.0)], 0.1, DARK)


def _balloon(brush: Brush, cloth) -> None:
    stripe, rope = (255, 214, 84), (112, 74, 52)
    for side in (-1, 1):
        brush.stroke([(side * 0.42, 0.1), (side * 0.22, 0.66)], 0.09, rope)
    brush.shape(
        [
            (-1.06, -0.1),
            (-1.06, -1.0),
            (-0.5, -1.5),
            (0.5, -1.5),
            (1.06, -1.0),
            (1.06, -0.1),
            (0.3, 0.46),
            (-0.3, 0.46),
        ],
        cloth,
        smooth=3,
    )
    brush.shape(
        [(-0.36, -1.38), (0.36, -1.38), (0.46, -0.5), (0.24, 0.4), (-0.24, 0.4), (-0.46, -0.5)], stripe, smooth=2
    )
    brush.box(-0.34, 0.58, 0.34, 0.98, (164, 106, 62), radius=0.1)
    brush.box(-0.4, 0.54, 0.4, 0.68, rope, radius=0.06, line=False)


PAINTERS = {"cat": _cat, "bird": _bird, "car": _car, "robot": _robot, "frog": _frog, "balloon": _balloon}


def paint_subject(brush: Brush, subject: str, hue: float, gain: float) -> None:
    """Paint `subject` with its base colour turned by `hue` degrees and brightened by `gain`."""
    PAINTERS[subject](brush, shift_hue(BASE_COLOURS[subject], hue, gain))
