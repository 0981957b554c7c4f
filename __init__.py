"""InstructAny2Pix: edit a picture by an instruction that mixes words, pictures and sounds."""

from importlib.util import find_spec

WEB_DIRECTORY = "./web"

# Training, evaluation and the tests of the pure rooms use this package where there is no ComfyUI.
if find_spec("comfy_api"):
    from .nodes import comfy_entrypoint
