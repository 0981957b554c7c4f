"""The workflows for the published weights on files that are there."""

from comfyui_client.graphs import nodes_of

from harness.adapter_graph import TWO_VIEW_FILE

LORA = "any2pix_miniature_lora.safetensors"
SMALL = 128 * 128 / 1024**2  # megapixels of the miniature's pictures


def with_stand_ins(graph: dict) -> dict:
    """The same graph on files that are there. Everything but what the loaders read stays as it is."""
    for body in graph.values():
        inputs = body["inputs"]
        if body["class_type"] == "CheckpointLoaderSimple":
            body["class_type"] = "Any2PixTestCheckpoint"
        elif body["class_type"] == "Any2PixLoadAdapter":
            inputs["name"] = TWO_VIEW_FILE
        elif body["class_type"].startswith("Any2PixLoad"):
            inputs["name"] = "miniature"
        elif body["class_type"] == "LoraLoaderModelOnly":
            inputs["lora_name"] = LORA
    sized = next(node for node in nodes_of(graph, "ImageScaleToTotalPixels") if feeds(graph, node, "VAEEncode"))
    graph[sized]["inputs"]["megapixels"] = SMALL
    return graph


def feeds(graph: dict, node: str, class_type: str) -> bool:
    return any(
        isinstance(value, list) and value[0] == node
        for other in nodes_of(graph, class_type)
        for value in graph[other]["inputs"].values()
    )
