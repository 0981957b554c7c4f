"""The published weight files that the workflows name: what the page's missing-model dialog shows, and where it leads.

The dialog asks for a file when its name is chosen in a widget and its folder lacks it. It lists .safetensors only,
offers a download from a few hosts only, and knows two files with one address for one: hence the converted names, and a
fragment in the addresses of files that lie on one page.
"""

from dataclasses import dataclass

RELEASE = "https://huggingface.co/jacklishufan/instructany2pix_retrained/tree/main"
STABILITY = "https://huggingface.co/stabilityai"


@dataclass(frozen=True)
class ModelFile:
    """``name``: the file as a loader lists it. ``url``: it, or the page of the file it is converted from.
    ``directory``: the key of the model folder."""

    name: str
    url: str
    directory: str

    def entry(self) -> dict[str, str]:
        """As it stands in ``properties.models`` of a node."""
        return {"name": self.name, "url": self.url, "directory": self.directory}


IMAGEBIND = ModelFile(
    "imagebind_huge.safetensors",
    "https://dl.fbaipublicfiles.com/imagebind/imagebind_huge.pth",
    "any2pix_imagebind",
)
LLM = ModelFile("llm-retrained.safetensors", f"{RELEASE}#llm-retrained", "any2pix_llm")
PRIOR = ModelFile("prior.safetensors", f"{RELEASE}#prior/model.bin", "any2pix_prior")
ADAPTER = ModelFile(
    "ip_adapter_global_local_2_view.safetensors",
    f"{RELEASE}#sdxl/ip_adapter_global_local_2_view.bin",
    "any2pix_adapter",
)
SDXL_BASE = ModelFile(
    "sd_xl_base_1.0.safetensors",
    f"{STABILITY}/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors",
    "checkpoints",
)
SDXL_REFINER = ModelFile(
    "sd_xl_refiner_1.0.safetensors",
    f"{STABILITY}/stable-diffusion-xl-refiner-1.0/resolve/main/sd_xl_refiner_1.0.safetensors",
    "checkpoints",
)
LCM_LORA = ModelFile(
    "lcm_lora_sdxl.safetensors",
    "https://huggingface.co/latent-consistency/lcm-lora-sdxl/resolve/main/pytorch_lora_weights.safetensors",
    "loras",
)

# Our loaders carry their file even while they say miniature: whoever chooses it and passes the workflow on, passes on
# where it comes from. Load Embedding Diffusion has none: the UNet of the first release is no longer to be had.
OF_LOADERS = {
    "Any2PixLoadImageBind": (IMAGEBIND,),
    "Any2PixLoadLLM": (LLM,),
    "Any2PixLoadPrior": (PRIOR,),
    "Any2PixLoadAdapter": (ADAPTER,),
}
OF_STOCK_NODES = (SDXL_BASE, SDXL_REFINER, LCM_LORA)
