"""How the two-view adapter is asked."""

SEED = 25
TOKENS = 4
SCALE = 0.6
LOCAL_STRENGTH = 0.5  # IPAdapterXL.generate's default
# name: mode, whether the whole and the local view are given
VIEWS = {
    "global": ("global", True, False),
    "local": ("local", False, True),
    "local of both": ("local", True, True),
    "both": ("both", True, True),
}
