"""The only room that knows ComfyUI: sockets <-> tensors, model folders, memory, conditioning."""

from comfy_api.latest import ComfyExtension, io

from .condition import ApplyEmbedding
from .diffusion import LoadDiffusion
from .edit_mask import EditMask
from .embed import AudioEmbedding, ImageEmbedding, TextEmbedding
from .grid import GridValues, LabelledGrid
from .guard import guard
from .host.example_inputs import copy_example_inputs
from .host.folders import register_folders
from .host.renames import old_ids, register_renames
from .instruct import Instruct
from .instruct_pix2pix import InstructPix2PixGuider
from .invert import DDIMInvert, NoiseMix
from .library import LoadReferences, PickReference, SaveReferences
from .load import LoadAdapter, LoadImageBind, LoadLLM, LoadPrior
from .load_pix2pix import LoadInstructPix2Pix
from .refine import MixEmbeddings, Refine
from .retrieve import RetrieveBase
from .sampler import EmbeddingSampler
from .saved_embedding import LoadEmbedding, SaveEmbedding
from .saved_inversion import LoadInversion, SaveInversion

NODES: list[type[io.ComfyNode]] = [
    LoadImageBind,
    LoadLLM,
    LoadPrior,
    LoadAdapter,
    LoadDiffusion,
    LoadInstructPix2Pix,
    ImageEmbedding,
    AudioEmbedding,
    TextEmbedding,
    Instruct,
    RetrieveBase,
    Refine,
    MixEmbeddings,
    DDIMInvert,
    NoiseMix,
    ApplyEmbedding,
    EmbeddingSampler,
    InstructPix2PixGuider,
    GridValues,
    LabelledGrid,
    SaveReferences,
    LoadReferences,
    PickReference,
    SaveEmbedding,
    LoadEmbedding,
    SaveInversion,
    LoadInversion,
    EditMask,
]
guard(NODES)


class Any2PixExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES + old_ids()


async def comfy_entrypoint() -> Any2PixExtension:
    register_folders()  # here and not in on_load, which ComfyUI 0.3.75 never calls
    copy_example_inputs()
    await register_renames()
    return Any2PixExtension()
