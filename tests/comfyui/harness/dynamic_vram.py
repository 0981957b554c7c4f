"""Dynamic VRAM as a loader and a layer meet it, on any host and without a card.

ComfyUI has it on by default on NVIDIA cards since 0.16. With it
1. Linear and Embedding are built without weights and take from a state dict what it holds, of any shape and type, or
zeros;
2. the patchers of ComfyUI's own models leave every weight where it is and bring it to the card for each operation;
3. what an operation was lent has to be given back after it, and is overwritten then.
Hosts that know it are switched to it; 0.3.75 is taught it. Only what needs a card's own memory is not there. The tests
of the nodes run with it and without; `DYNAMIC_VRAM=1` starts the server of tests/comfyui with it.
"""

from contextlib import ExitStack, contextmanager
from unittest import mock

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.utils
import safetensors.torch
import torch
from torch import nn

try:
    import comfy.memory_management as memory_management
except ImportError:
    memory_management = None

BARE = comfy.ops.disable_weight_init
WEIGHTLESS = {  # layer -> the shape of its weight
    BARE.Linear: lambda layer: (layer.out_features, layer.in_features),
    BARE.Embedding: lambda layer: (layer.num_embeddings, layer.embedding_dim),
}


class StreamingPatcher(comfy.model_patcher.ModelPatcher):
    """Leaves the weights of every layer that can cast where they are, as ModelPatcherDynamic does."""

    def __init__(self, model, *args, **kwargs):
        super().__init__(model, *args, **kwargs)
        # what newer hosts ask every dynamic model for; nothing of it is in use without a card
        idle = {"active": False, "current_prompt": False}
        vars(model).setdefault("dynamic_pins", {}).setdefault(self.load_device, idle)

    def is_dynamic(self):
        return True

    def loaded_ram_size(self):
        return 0

    def set_in_use_by_current_prompt(self, in_use):
        self.model.dynamic_pins[self.load_device]["current_prompt"] = in_use

    def load(self, device_to=None, lowvram_model_memory=0, force_patch_weights=False, full_load=False):
        super().load(device_to, lowvram_model_memory=0.1)

    def clone(self, disable_dynamic=False, **options):
        if not disable_dynamic:
            return super().clone(**options)
        load, args = self.cached_patcher_init  # None where a loader did not say how it loads
        return load(*args, disable_dynamic=True)


class Lent:
    """Every weight that an operation was lent: a copy that is spoilt when it is given back."""

    def __init__(self):
        self.out = {}
        self.never_given_back = []
        self._cast, self._uncast = comfy.ops.cast_bias_weight, comfy.ops.uncast_bias_weight

    def cast(self, layer, input=None, *args, offloadable=False, **options):
        given = self._cast(layer, input, *args, offloadable=True, **options)
        tensors = [self._copy(tensor, own) for tensor, own in zip(given[:2], (layer.weight, layer.bias), strict=True)]
        if not offloadable:
            self.never_given_back.append(type(layer).__name__)
            return tuple(tensors)
        token = object()
        self.out[token] = (given[2], tensors)
        return *tensors, token

    def uncast(self, layer, weight, bias, token):
        stream, tensors = self.out.pop(token)
        self._uncast(layer, weight, bias, stream)
        for tensor in tensors:
            if tensor is not None and tensor.is_floating_point():
                tensor.fill_(float("nan"))

    @staticmethod
    def _copy(tensor, own):
        return (
            tensor.clone() if tensor is not None and own is not None and tensor.data_ptr() == own.data_ptr() else tensor
        )


@contextmanager
def dynamic_vram():
    """A host with dynamic VRAM; gives the Lent of all operations in it."""
    lent = Lent()
    with ExitStack() as stack:

        def patch(owner, name, value):
            stack.enter_context(mock.patch.object(owner, name, value, create=True))

        patch(comfy.ops, "cast_bias_weight", lent.cast)
        patch(comfy.ops, "uncast_bias_weight", lent.uncast)
        patch(comfy.model_patcher, "CoreModelPatcher", StreamingPatcher)
        if memory_management is not None and hasattr(memory_management, "aimdo_enabled"):
            patch(memory_management, "aimdo_enabled", True)
            # theirs maps it
            patch(comfy.utils, "load_safetensors", lambda path: (safetensors.torch.load_file(path), None))
        else:
            for layer, shape in WEIGHTLESS.items():
                _build_without_weights(layer, shape, patch)
            patch(comfy.model_base.BaseModel, "load_model_weights", load_model_weights_as_newer)
            patch(comfy.sd.CLIP, "__init__", _streamed_clip(comfy.sd.CLIP.__init__))
        yield lent


def _build_without_weights(layer, shape, patch):
    """comfy's layer as newer hosts have it: empty until a state dict fills it; whole where a subclass loads in its own
    way."""
    build, load_whole = layer.__init__, layer._load_from_state_dict

    def init(self, *args, **options):
        whole = type(self)._load_from_state_dict is not load
        build(self, *args, **(options if whole else {**options, "device": "meta"}))
        if not whole and isinstance(self, nn.Linear):
            self.has_bias = self.bias is not None
            self.weight = self.bias = None

    def load(self, state_dict, prefix, metadata, strict, missing, unexpected, errors):
        if type(self)._load_from_state_dict is not load:
            return load_whole(self, state_dict, prefix, metadata, strict, missing, unexpected, errors)
        assign = metadata.get("assign_to_params_buffers", False)
        names = ("weight", "bias") if getattr(self, "has_bias", False) else ("weight",)
        for name in names:
            value = state_dict.get(prefix + name)
            if value is None:
                missing.append(prefix + name)
                value = torch.zeros(shape(self) if name == "weight" else shape(self)[:1])
            setattr(self, name, nn.Parameter(value if assign else value.clone(), requires_grad=False))
        return None

    patch(layer, "__init__", init)
    patch(layer, "_load_from_state_dict", load)


def load_model_weights_as_newer(self, sd, unet_prefix="", assign=False):
    weights = {key.removeprefix(unet_prefix): sd.pop(key) for key in list(sd) if key.startswith(unet_prefix)}
    self.diffusion_model.load_state_dict(
        self.model_config.process_unet_state_dict(weights), strict=False, assign=assign
    )
    return self


def _streamed_clip(build):
    def init(self, *args, disable_dynamic=False, no_init=False, **options):
        # 0.3.75 loads a CLIP on a CPU before it has weights, which empty layers have none of yet
        with mock.patch.object(comfy.model_management, "load_models_gpu", lambda *_, **__: None):
            build(self, *args, no_init=no_init, **options)
        if not no_init and not disable_dynamic:
            plain = self.patcher
            self.patcher = StreamingPatcher(plain.model, plain.load_device, plain.offload_device)
            self.patcher.hook_mode, self.patcher.is_clip = plain.hook_mode, True

    return init
