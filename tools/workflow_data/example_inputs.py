"""The pictures and sounds that the example workflows open with."""

from any2pix.datagen.toyland import TEST_SEEDS_FROM, Scene

# Seeds of the test split: no network has seen these pictures or heard these sounds.
PICTURES = {
    "toyland_meadow.png": Scene("meadow", "none", "sunny", "flat", TEST_SEEDS_FROM + 1),
    "toyland_beach.png": Scene("beach", "car", "sunny", "pastel", TEST_SEEDS_FROM + 2),
    "toyland_robot.png": Scene("city", "robot", "night", "flat", TEST_SEEDS_FROM + 3),
    "toyland_ink.png": Scene("forest", "bird", "sunny", "ink", TEST_SEEDS_FROM + 4),
}
# The right half is see-through, as ComfyUI's mask editor leaves what is painted over: Load Image makes the mask of it.
MASKED = {"toyland_masked.png": Scene("forest", "none", "sunny", "flat", TEST_SEEDS_FROM + 1)}
SOUNDS = {
    "toyland_cat.wav": ("cat", TEST_SEEDS_FROM + 3),
    "toyland_frog.wav": ("frog", TEST_SEEDS_FROM + 8),
    "toyland_rain.wav": ("rain", TEST_SEEDS_FROM + 6),
    "toyland_snow.wav": ("snow", TEST_SEEDS_FROM),
}
