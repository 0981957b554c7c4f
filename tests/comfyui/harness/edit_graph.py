"""The whole edit as a graph in API format, on the files that the pack brings along; ids are words."""

from any2pix.miniature import manifest
from node_schemas import read_pinned, widgets_of

from harness.graphs import with_inputs

NODE_IDS = set(read_pinned())
LOADERS = {name for name, one in read_pinned().items() if "precision" in widgets_of(one)}  # of networks
EDIT_LOADERS = LOADERS - {"Any2PixLoadInstructPix2Pix"}  # what an edit with InstructAny2Pix loads
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
STEPS = 8  # enough for a picture, few enough for a test
FEW_STEPS, FEW_ITERATIONS = 3, 2  # where every node has to run, and nothing hangs on what the picture shows


def missing_miniature() -> list[str]:
    """The files of the bundled checkpoint that are not there."""
    return [name for name in manifest.OF_NODES if not (manifest.FOLDER / name).is_file()]


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def with_defaults(graph: dict, object_info: dict) -> dict:
    """Fills in the default of every widget that the graph says nothing about, as the page does."""
    for body in graph.values():
        groups = object_info[body["class_type"]]["input"]
        for name, (kind, *options) in {**groups.get("required", {}), **groups.get("optional", {})}.items():
            options = options[0] if options else {}
            if isinstance(kind, list):  # an old-style choice
                options, kind = {"options": kind, **options}, "COMBO"
            offered = options.get("options") or [None]
            if name not in body["inputs"] and kind in WIDGETS and not options.get("forceInput"):
                body["inputs"][name] = options.get("default", offered[0])
    return graph


def edit_graph(object_info: dict, image: str = "toyland_meadow.png", audio: str = "toyland_cat.wav") -> dict:
    """Adds what a sound stands for to a picture: every node of InstructAny2Pix but Load Text Embedding is in it."""
    graph = {
        "imagebind": node("Any2PixLoadImageBind"),
        "llm": node("Any2PixLoadLLM"),
        "prior": node("Any2PixLoadPrior"),
        "adapter": node("Any2PixLoadAdapter"),
        "diffusion": node("Any2PixLoadDiffusion"),
        "picture": node("LoadImage", image=image),
        "sound": node("LoadAudio", audio=audio),
        "seen": node("Any2PixImageEmbedding", imagebind=["imagebind", 0], image=["picture", 0]),
        "heard": node("Any2PixAudioEmbedding", imagebind=["imagebind", 0], audio=["sound", 0], references=["seen", 0]),
        "instruct": node(
            "Any2PixInstruct", llm=["llm", 0], references=["heard", 0], instruction="add [audio1] to [image1]"
        ),
        "base": node("Any2PixRetrieveBase", references=["heard", 0], base=["instruct", 1], blank_size=128),
        "refined": node("Any2PixRefine", prior=["prior", 0], embedding=["instruct", 0]),
        "mixed": node("Any2PixMixEmbeddings", edit=["instruct", 0], refined=["refined", 0], base=["base", 1]),
        "encoded": node("VAEEncode", pixels=["base", 0], vae=["diffusion", 1]),
        "source": node("Any2PixApplyEmbedding", model=["diffusion", 0], adapter=["adapter", 0], embedding=["base", 1]),
        "inverted": node(
            "Any2PixDDIMInvert",
            model=["source", 0],
            conditioning=["source", 1],
            latent=["encoded", 0],
            base=["base", 1],
            steps=STEPS,
        ),
        "noise": node("Any2PixNoiseMix", latent=["inverted", 0]),
        "sampled": node(
            "Any2PixSampler",
            model=["diffusion", 0],
            adapter=["adapter", 0],
            embedding=["mixed", 0],
            latent=["noise", 0],
            negative_embedding=["base", 1],
            steps=STEPS,
        ),
        "decoded": node("VAEDecode", samples=["sampled", 0], vae=["diffusion", 1]),
        "saved": node("SaveImage", images=["decoded", 0], filename_prefix="test"),
    }
    return with_defaults(graph, object_info)


def in_few_steps(graph: dict) -> dict:
    """The edit with all its nodes and little sampling, for what does not ask what the picture shows."""
    graph = with_inputs(graph, "inverted", steps=FEW_STEPS, iterations=FEW_ITERATIONS)
    return with_inputs(graph, "sampled", steps=FEW_STEPS)


def only(graph: dict, *wanted: str) -> dict:
    """The part of a graph that the wanted nodes need."""
    keep, open_ends = set(), list(wanted)
    while open_ends:
        name = open_ends.pop()
        if name not in keep:
            keep.add(name)
            links = (value for value in graph[name]["inputs"].values() if isinstance(value, list))
            open_ends += [link[0] for link in links]
    return {name: body for name, body in graph.items() if name in keep}
