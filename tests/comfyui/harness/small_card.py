"""A node pack for a test's server: ComfyUI's model manager believes in a graphics card as small as the test says.

The card is the CPU under another name. torch.device("cpu", 0) is not torch.device("cpu") to the manager, so it loads to
it, counts, makes room and loads in part as on a GPU, while the tensors stay where they are and so do their numbers. GET
/small_card tells what lies on the card and every load since the last POST; POST /small_card takes {"megabytes": of
weights that the card holds, null for any number, "fail_in": class of a layer that runs out of memory once}.
"""

import weakref
from dataclasses import dataclass, field

import comfy.model_management as management
import torch
from aiohttp import web
from server import PromptServer
from torch.nn.modules.module import register_module_forward_pre_hook

NODE_CLASS_MAPPINGS = {}
CARD = torch.device("cpu", 0)
MEGABYTE = 2**20
PLENTY = 2**40
free_elsewhere = management.get_free_memory
load_models = management.load_models_gpu


@dataclass
class Card:
    weights: int = PLENTY  # bytes of weights that it holds
    fail_in: str | None = None
    loads: list[list[dict]] = field(default_factory=list)


state = Card()
seen = weakref.WeakSet()  # every network: while the manager loads one it is not in the manager's own list


def models_on_card() -> list[dict]:
    models = [
        loaded for loaded in management.current_loaded_models if loaded.device == CARD and loaded.model is not None
    ]
    return [
        {"name": type(m.model.model).__name__, "loaded": m.model_loaded_memory(), "size": m.model_memory()}
        for m in models
    ]


def get_free_memory(device=None, torch_free_too=False):
    if device is not None and device != CARD:
        return free_elsewhere(device, torch_free_too)
    used = sum(model.model_loaded_weight_memory for model in seen)
    free = management.minimum_inference_memory() + state.weights - used
    return (free, free) if torch_free_too else free


def load_models_gpu(models, *args, **kwargs):
    seen.update(patcher.model for model in models for patcher in (model, *model.model_patches_models()))
    load_models(models, *args, **kwargs)
    state.loads.append(models_on_card())


def fail_once(module, inputs):
    if state.fail_in == type(module).__name__:
        state.fail_in = None
        raise management.OOM_EXCEPTION("Allocation on device")


management.get_torch_device = lambda: CARD
management.is_device_cpu = lambda device: getattr(device, "type", None) == "cpu" and device.index is None
management.vram_state = management.VRAMState.NORMAL_VRAM
management.get_free_memory = get_free_memory
management.load_models_gpu = load_models_gpu
register_module_forward_pre_hook(fail_once)


@PromptServer.instance.routes.get("/small_card")
async def tell(request):
    return web.json_response({"models": models_on_card(), "loads": state.loads})


@PromptServer.instance.routes.post("/small_card")
async def change(request):
    wanted = await request.json()
    megabytes = wanted.get("megabytes")
    state.weights = PLENTY if megabytes is None else int(megabytes * MEGABYTE)
    state.fail_in = wanted.get("fail_in")
    state.loads = []
    return web.json_response({})
