"""What the example workflows are put together from: groups of nodes, wired. A link is (node, name of its output)."""

from dataclasses import dataclass, field

from any2pix.stages.any2pix.options import MINIATURE_GUIDANCE

Link = tuple[str, str]

COMPARISON_MEGAPIXELS = 0.4
PRIOR_GUIDANCE = MINIATURE_GUIDANCE
SIZE = 128  # pixels a side of the miniature's pictures; 1024 for SDXL
# The page writes a group's title in its color and tints its ground with it: bright ones can be read.
INPUT_COLOR, ASK_COLOR, SHOW_COLOR = "#6fb3e0", "#9fd39f", "#d59be0"
NOISE_COLOR, PAINT_COLOR, LOOK_COLOR = "#e0c06a", "#e8a070", "#6fd3c8"
WORDS_COLOR, REFINE_COLOR = "#a8b8e8", "#e895b0"

# Files that only the test makes; the nodes that read them are switched off as the workflow opens.
LORA_FILE, CONTROLNET_FILE = "any2pix_miniature_lora.safetensors", "any2pix_miniature_controlnet.safetensors"


@dataclass(frozen=True)
class Group:
    """`columns`: names of nodes, from top to bottom, in columns from left to right."""

    title: str
    color: str
    columns: tuple[tuple[str, ...], ...]


Item = Group | str


@dataclass
class Plan:
    """`nodes`: name -> type, title and inputs (API format).

    `rows`: from top to bottom, each of groups and notes from left to right; a tuple is a stack of them. A string is the
    name of a note in `workflow_data.notes.NOTES`. `bypassed`: nodes that are switched off as the workflow opens.
    """

    name: str
    nodes: dict[str, dict] = field(default_factory=dict)
    rows: list[list[Item | tuple[Item, ...]]] = field(default_factory=list)
    bypassed: tuple[str, ...] = ()
    result: Link = ("decoded", "IMAGE")

    def add(self, name: str, class_type: str, title: str | None = None, **inputs) -> None:
        self.nodes[name] = {
            "class_type": class_type,
            "inputs": inputs,
            **({"_meta": {"title": title}} if title else {}),
        }


@dataclass(frozen=True)
class Source:
    """One reference: `kind` "image", "audio" or "text"; `content` a file of workflows/inputs, or the text itself."""

    kind: str
    content: str
    title: str


def add_references(plan: Plan, *sources: Source) -> tuple[Group, Link]:
    """Loaders and a chain of embedding nodes, in the order of the sources -> group, link to all references."""
    plan.add("imagebind", "Any2PixLoadImageBind")
    loaded, chain, count, link = [], [], {"image": 0, "audio": 0, "text": 0}, None
    for source in sources:
        count[source.kind] += 1
        mark = f"{source.kind}{count[source.kind]}"
        inputs = {"imagebind": ("imagebind", "imagebind"), **({"references": link} if link else {})}
        if source.kind == "text":
            plan.add(
                f"embed {mark}",
                "Any2PixTextEmbedding",
                f"[{mark}] Load Text Embedding",
                text=source.content,
                **inputs,
            )
        else:
            upper = source.kind.capitalize()
            plan.add(mark, f"Load{upper}", source.title, **{source.kind: source.content})
            inputs[source.kind] = (mark, source.kind.upper())
            plan.add(f"embed {mark}", f"Any2Pix{upper}Embedding", f"[{mark}] Load {upper} Embedding", **inputs)
            loaded.append(mark)
        chain.append(f"embed {mark}")
        link = (f"embed {mark}", "references")
    return Group("1 · What you bring", INPUT_COLOR, (tuple(loaded), ("imagebind", *chain))), link


def add_instruction(plan: Plan, references: Link, instruction: str) -> Group:
    """The LLM and its plan."""
    plan.add("llm", "Any2PixLoadLLM")
    plan.add("instruct", "Any2PixInstruct", llm=("llm", "llm"), references=references, instruction=instruction)
    return Group("2 · What you ask for", ASK_COLOR, (("llm",), ("instruct",)))


def add_look(plan: Plan) -> Group:
    """From the LLM's prediction to the embedding that is painted."""
    plan.add("prior", "Any2PixLoadPrior")
    plan.add(
        "refined",
        "Any2PixRefine",
        prior=("prior", "prior"),
        embedding=("instruct", "edit"),
        guidance=PRIOR_GUIDANCE,
    )
    plan.add(
        "mixed",
        "Any2PixMixEmbeddings",
        edit=("instruct", "edit"),
        refined=("refined", "refined"),
        base=("base", "embedding"),
    )
    return Group("3 · What the result shows", SHOW_COLOR, (("prior",), ("refined",), ("mixed",)))


def add_inversion(plan: Plan, references: Link, mask: Link | None = None) -> Group:
    """From the picture that the LLM means to edit to the noise that the sampler starts from."""
    plan.add("base", "Any2PixRetrieveBase", references=references, base=("instruct", "base"), blank_size=SIZE)
    plan.add("adapter", "Any2PixLoadAdapter")
    plan.add("diffusion", "Any2PixLoadDiffusion")
    plan.add("encoded", "VAEEncode", pixels=("base", "image"), vae=("diffusion", "vae"))
    latent = ("encoded", "LATENT")
    if mask:
        plan.add("masked", "SetLatentNoiseMask", samples=latent, mask=mask)
        latent = ("masked", "LATENT")
    add_applied(plan, "source", "Apply Embedding (the source)", ("base", "embedding"))
    plan.add(
        "inverted",
        "Any2PixDDIMInvert",
        model=("source", "model"),
        conditioning=("source", "positive"),
        latent=latent,
        base=("base", "embedding"),
    )
    plan.add("noise", "Any2PixNoiseMix", latent=("inverted", "latent"))
    columns = (
        ("adapter", "diffusion"),
        ("base",),
        ("encoded", "source"),
        ("masked", "inverted") if mask else ("inverted",),
        ("noise",),
    )
    return Group("4 · The picture to edit, as noise", NOISE_COLOR, columns)


def add_applied(plan: Plan, name: str, title: str, embedding: Link) -> None:
    """The conditioning of an embedding."""
    loaded = {"model": ("diffusion", "model"), "adapter": ("adapter", "adapter")}
    plan.add(name, "Any2PixApplyEmbedding", title, **loaded, embedding=embedding)


def add_edit_mask(plan: Plan) -> tuple[Group, Link, Link]:
    """Where the edit changes the picture -> group, link to the mask, link to the inverted latent under it."""
    add_applied(plan, "edit", "Apply Embedding (the result)", ("mixed", "embedding"))
    plan.add(
        "found",
        "Any2PixEditMask",
        model=("source", "model"),
        source=("source", "positive"),
        edit=("edit", "positive"),
        latent=("encoded", "LATENT"),
        base=("base", "embedding"),
    )
    plan.add("limited", "SetLatentNoiseMask", samples=("noise", "latent"), mask=("found", "mask"))
    plan.add("mask shown", "MaskPreview", "The mask", mask=("found", "mask"))
    columns = (("edit", "found"), ("limited", "mask shown"))
    return Group("5 · Where it changes", WORDS_COLOR, columns), ("found", "mask"), ("limited", "LATENT")


def add_sampler(
    plan: Plan,
    sampled: Link | None = None,
    extra: tuple[tuple[str, ...], ...] = (),
    mask: Link | None = None,
    latent: Link = ("noise", "latent"),
) -> Group:
    """Our sampler, unless `sampled` says where the painted latent comes from (from the nodes in the columns
    `extra`)."""
    if sampled is None:
        plan.add(
            "sampled",
            "Any2PixSampler",
            model=("diffusion", "model"),
            adapter=("adapter", "adapter"),
            embedding=("mixed", "embedding"),
            latent=latent,
        )
        sampled, extra = ("sampled", "latent"), (("sampled",),)
    plan.add("decoded", "VAEDecode", samples=sampled, vae=("diffusion", "vae"))
    last = ("decoded",)
    if mask:
        add_masked_paste(plan, mask)
        last, plan.result = ("decoded", "kept", "merged"), ("merged", "IMAGE")
    plan.add("saved", "SaveImage", "The result", images=plan.result, filename_prefix=f"any2pix/{plan.name}")
    return Group("5 · Paint", PAINT_COLOR, (*extra, last, ("saved",)) if mask else (*extra, (*last, "saved")))


def add_stock_sampler(plan: Plan, steps: int, cfg: float, sampler_name: str, scheduler: str) -> None:
    """ComfyUI's own sampler for what the node "edit" gives. The latent holds its noise already, so none is added."""
    plan.add(
        "sampled",
        "KSamplerAdvanced",
        model=("edit", "model"),
        positive=("edit", "positive"),
        negative=("edit", "negative"),
        latent_image=("noise", "latent"),
        add_noise="disable",
        noise_seed=0,
        steps=steps,
        cfg=cfg,
        sampler_name=sampler_name,
        scheduler=scheduler,
        start_at_step=0,
        end_at_step=10000,
        return_with_leftover_noise="disable",
    )


def add_masked_paste(plan: Plan, mask: Link) -> None:
    """Decodes the untouched latent too, and pastes what was painted into it.

    Outside the mask the latent is untouched, yet a VAE normalises over the whole picture: decoded together, what is
    painted on one side would shade the other.
    """
    plan.add("kept", "VAEDecode", "VAE Decode (untouched)", samples=("encoded", "LATENT"), vae=("diffusion", "vae"))
    plan.add(
        "merged",
        "ImageCompositeMasked",
        destination=("kept", "IMAGE"),
        source=("decoded", "IMAGE"),
        mask=mask,
        x=0,
        y=0,
        resize_source=False,
    )


def add_comparison(
    plan: Plan,
    before: Link = ("base", "image"),
    *between: Link,
    title: str = "6 · Look",
    shown: str = "Before and after",
) -> Group:
    """Before and after in one picture, of a size to look at, however small or large the result is. `between`: other
    results."""
    row, names = before, []
    for place, picture in enumerate((*between, plan.result), start=1):
        names.append("stitched" if place == 1 else f"stitched {place}")
        plan.add(
            names[-1],
            "ImageStitch",
            image1=row,
            image2=picture,
            direction="right",
            match_image_size=True,
            spacing_width=8,
            spacing_color="white",
        )
        row = (names[-1], "IMAGE")
    plan.add(
        "scaled",
        "ImageScaleToTotalPixels",
        image=row,
        upscale_method="nearest-exact",
        megapixels=COMPARISON_MEGAPIXELS,
    )
    plan.add("compared", "PreviewImage", shown, images=("scaled", "IMAGE"))
    return Group(title, LOOK_COLOR, ((*names, "scaled"), ("compared",)))


def add_lora_and_controlnet(plan: Plan) -> Group:
    """Between the model and the inversion, so that inversion and sampling walk the same way. All switched off."""
    plan.add("lora", "LoraLoaderModelOnly", model=("diffusion", "model"), lora_name=LORA_FILE, strength_model=1.0)
    plan.add("controlnet", "ControlNetLoader", control_net_name=CONTROLNET_FILE)
    plan.add("edges", "Canny", "Canny (the hint)", image=("base", "image"), low_threshold=0.2, high_threshold=0.5)
    plan.add(
        "guided",
        "ControlNetApplyAdvanced",
        positive=("source", "positive"),
        negative=("source", "negative"),
        control_net=("controlnet", "CONTROL_NET"),
        image=("edges", "IMAGE"),
        strength=0.6,
        start_percent=0.0,
        end_percent=1.0,
    )
    plan.nodes["source"]["inputs"]["model"] = ("lora", "MODEL")
    plan.nodes["inverted"]["inputs"]["conditioning"] = ("guided", "positive")
    plan.bypassed = ("lora", "controlnet", "edges", "guided")
    return Group(
        "LoRA and ControlNet (switched off: Ctrl+B)", "#888", (("lora", "controlnet"), ("edges",), ("guided",))
    )
