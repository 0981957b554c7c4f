"""`make demo`: edits a picture by an instruction with a sound in it, through a real ComfyUI and comfy-cli.

IMAGE, AUDIO, INSTRUCTION and OUTPUT in the environment take the place of what the workflow opens with.
"""

import json
import os
import shutil
import signal
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import cli_runner
import comfy_server
import workspace
from contact_sheet import save_contact_sheet
from PIL import Image, ImageOps, UnidentifiedImageError

WORKFLOW = workspace.ROOT / "workflows" / "edit_with_sound.json"
CAPTION_OUTPUT = 2  # the third output of Multimodal Instruction LLM
CAPTION_NODE = "demo_caption"


class DemoError(Exception):
    """The demo cannot go on; the text says why and what to do."""


def the_node(graph: dict, class_type: str) -> str:
    """The id of the first node of a type."""
    found = [node for node, body in graph.items() if body["class_type"] == class_type]
    if not found:
        raise DemoError(f"{WORKFLOW.name} has no node of type {class_type} any more.")
    return found[0]


def existing(path: str, what: str) -> Path:
    """The file that the user named."""
    source = Path(path).expanduser()
    if not source.is_file():
        raise DemoError(f"{what} is {path}, but there is no such file.")
    return source


def bring_sound(folder: Path, path: str) -> str:
    """Copies a sound into ComfyUI's input folder; returns its name there."""
    source = existing(path, "AUDIO")
    name = f"demo_sound{source.suffix}"
    shutil.copyfile(source, folder / name)
    return name


def bring_picture(folder: Path, path: str, example: str) -> str:
    """Crops and scales a picture to the size of the example's, which is the miniature's, into ComfyUI's input
    folder."""
    source, name = existing(path, "IMAGE"), "demo_picture.png"
    with Image.open(folder / example) as model:
        size = model.size
    try:
        picture = ImageOps.exif_transpose(Image.open(source)).convert("RGB")
    except UnidentifiedImageError:
        raise DemoError(f"IMAGE is {path}, but it cannot be read as a picture.") from None
    ImageOps.fit(picture, size, Image.Resampling.LANCZOS).save(folder / name)
    return name


def fill_in(server: comfy_server.ComfyServer, graph: dict, wishes: dict[str, str]) -> dict:
    """Puts the user's wishes into the graph, and a node that shows the caption. Returns what the edit is made from: the
    picture as it was cropped, the sound under the user's own name."""
    image, audio = graph[the_node(graph, "LoadImage")]["inputs"], graph[the_node(graph, "LoadAudio")]["inputs"]
    instruct, folder = the_node(graph, "Any2PixInstruct"), server.base / "input"
    sound = folder / audio["audio"]
    if wishes.get("IMAGE"):
        image["image"] = bring_picture(folder, wishes["IMAGE"], image["image"])
    if wishes.get("AUDIO"):
        audio["audio"] = bring_sound(folder, wishes["AUDIO"])
        sound = existing(wishes["AUDIO"], "AUDIO")
    if wishes.get("INSTRUCTION"):
        graph[instruct]["inputs"]["instruction"] = wishes["INSTRUCTION"]
    graph[CAPTION_NODE] = {"class_type": "PreviewAny", "inputs": {"source": [instruct, CAPTION_OUTPUT]}}
    instruction = graph[instruct]["inputs"]["instruction"]
    return {"image": folder / image["image"], "audio": sound, "instruction": instruction}


class Progress:
    """Prints comfy-cli's events in plain lines."""

    def __init__(self):
        self.named: set[str] = set()
        self.tenth = -1

    def __call__(self, event: dict) -> None:
        node, title = event.get("node"), event.get("title") or event.get("class_type")
        if event.get("type") == "executing" and node and node not in self.named:
            self.named.add(node)
            self.tenth = -1
            print(f"  {title}", flush=True)
        elif event.get("type") == "progress" and event.get("total"):
            tenth = 10 * event["completed"] // event["total"]
            if tenth > self.tenth:
                self.tenth = tenth
                print(f"    {event['completed']} of {event['total']}", flush=True)


def results(server: comfy_server.ComfyServer, prompt_id: str, graph: dict) -> tuple[bytes, str]:
    """What the run gave: the saved picture's file, and the caption."""
    outputs = server.get(f"/history/{prompt_id}")[prompt_id]["outputs"]
    saved = outputs[the_node(graph, "SaveImage")]["images"][0]
    with urllib.request.urlopen(f"{server.url}/view?{urllib.parse.urlencode(saved)}", timeout=30) as answer:
        return answer.read(), "".join(outputs[CAPTION_NODE]["text"])


def run_demo(wishes: dict[str, str], output: Path) -> tuple[Path, Path]:
    """Runs the workflow on a server of its own -> paths of the picture and the contact sheet."""
    output.mkdir(parents=True, exist_ok=True)
    base = workspace.make_base(workspace.WORKSPACE / "base")
    workspace.say("starting ComfyUI")
    with comfy_server.ComfyServer(base) as server:
        graph = cli_runner.api_format(server, WORKFLOW)
        made_from = fill_in(server, graph, wishes)
        file = base / "demo_graph.json"
        file.write_text(json.dumps(graph))
        picture_name = Path(wishes.get("IMAGE") or made_from["image"]).name
        workspace.say(f'editing {picture_name} with {made_from["audio"].name}: "{made_from["instruction"]}"')
        ended = cli_runner.run_cli(server, "--workflow", file, "--wait", show=Progress())[-1]["data"]
        picture, caption = results(server, ended["prompt_id"], graph)
    place = output / "demo.png"
    place.write_bytes(picture)
    sheet = save_contact_sheet(output / "demo_sheet.png", result=place, caption=caption, **made_from)
    return place, sheet


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # an end from outside stops the server too
    output = Path(os.environ.get("OUTPUT") or "output").expanduser().resolve()
    try:
        picture, sheet = run_demo(dict(os.environ), output)
    except (DemoError, workspace.SetupError, RuntimeError) as error:
        workspace.say(f"stopped: {error}")
        return 1
    except KeyboardInterrupt:
        workspace.say("stopped")
        return 130
    print(f"picture:       {picture}\ncontact sheet: {sheet}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
