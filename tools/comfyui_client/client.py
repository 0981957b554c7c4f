"""A client of ComfyUI's API that keeps every execution message, so that tests can say what ran and what did not."""

import io
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass, field

import numpy as np
import safetensors.torch
import websocket
from PIL import Image
from torch import Tensor

FINAL = ("execution_success", "execution_error", "execution_interrupted")
WAKE_SECONDS = 1.0  # an idle worker wakes up and acts on /free well within it


class PromptRejected(Exception):
    """The server would not queue a graph; `.answer` is its JSON: {"error": ..., "node_errors": {id: ...}}."""

    def __init__(self, answer: dict):
        super().__init__(json.dumps(answer)[:2000])
        self.answer = answer


@dataclass
class Run:
    """One prompt on the server: its graph (API format) and the (time, type, data) of each message about it."""

    prompt_id: str
    graph: dict
    messages: list[tuple[float, str, dict]] = field(default_factory=list)

    def of_type(self, kind: str) -> list[dict]:
        return [data for _, name, data in self.messages if name == kind]

    @property
    def outcome(self) -> str | None:
        """The final message's type, None while it runs."""
        return next((name for _, name, _ in self.messages if name in FINAL), None)

    @property
    def cached(self) -> set[str]:
        """Ids of the nodes whose outputs the server took from its cache."""
        return {node for data in self.of_type("execution_cached") for node in data["nodes"]}

    @property
    def executed(self) -> set[str]:
        """Ids of the nodes that really ran."""
        return {data["node"] for data in self.of_type("executing") if data["node"]} - self.cached

    @property
    def outputs(self) -> dict[str, dict]:
        """Node id -> what the node shows: {"images": [...]}, {"text": [...]}."""
        return {data["node"]: data["output"] or {} for data in self.of_type("executed")}

    @property
    def error(self) -> dict | None:
        return next(iter(self.of_type("execution_error")), None)

    def classes(self, ids: set[str]) -> set[str]:
        """The node types behind ids; ids of nodes that the graph does not name are left out."""
        return {self.graph[node]["class_type"] for node in ids if node in self.graph}


class Client:
    """url: the server's address. Messages come over one websocket, opened here."""

    def __init__(self, url: str):
        self.url, self.id = url, uuid.uuid4().hex
        self.socket = websocket.create_connection(f"{url.replace('http', 'ws', 1)}/ws?clientId={self.id}", timeout=30)
        self.runs: dict[str, Run] = {}

    def close(self) -> None:
        self.socket.close()

    def get(self, path: str):
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def post(self, path: str, body: dict):
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def queue(self, graph: dict) -> Run:
        """Queues a graph in API format and returns at once. A graph that the server would run only in part is
        rejected."""
        try:
            answer = self.post("/prompt", {"prompt": graph, "client_id": self.id})
        except urllib.error.HTTPError as error:
            raise PromptRejected(json.load(error)) from error
        if answer["node_errors"]:  # some output node does not depend on what is wrong
            self.post("/queue", {"delete": [answer["prompt_id"]]})
            raise PromptRejected(answer)
        return self.runs.setdefault(answer["prompt_id"], Run(answer["prompt_id"], graph))

    def listen(self, timeout: float) -> tuple[str, dict] | None:
        """The next message, filed with the run that it is about; None when none came in time."""
        self.socket.settimeout(timeout)
        try:
            message = self.socket.recv()
        except websocket.WebSocketTimeoutException:
            return None
        if isinstance(message, bytes):  # a preview picture
            return "preview", {}
        parsed = json.loads(message)
        kind, data = parsed["type"], parsed.get("data") or {}
        if data.get("prompt_id") in self.runs:
            self.runs[data["prompt_id"]].messages.append((time.monotonic(), kind, data))
        return kind, data

    def wait_for(self, condition, timeout: float, what: str) -> None:
        """Listens until `condition()` holds."""
        deadline = time.monotonic() + timeout
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{what} did not come within {timeout} s")
            self.listen(left)

    def wait(self, run: Run, timeout: float = 300) -> Run:
        """Listens until the run has ended, well or not."""
        self.wait_for(lambda: run.outcome, timeout, f"the end of prompt {run.prompt_id}")
        return run

    def run(self, graph: dict, timeout: float = 300) -> Run:
        """Queues, waits, and fails loudly when the run failed."""
        run = self.wait(self.queue(graph), timeout)
        assert run.outcome == "execution_success", run.error or run.outcome
        return run

    def interrupt(self) -> None:
        """Asks the server to stop what it runs."""
        self.post("/interrupt", {})

    def free(self) -> None:
        """Has an idle server unload the models and forget every cached output.

        The server's worker only takes note of the request when it wakes up; a prompt that is queued before that runs
        first.
        """
        self.post("/free", {"unload_models": True, "free_memory": True})
        time.sleep(WAKE_SECONDS)

    def upload(self, data: bytes, name: str) -> str:
        """Puts a file (picture or sound) into the server's input folder; returns its name for a loader."""
        border = uuid.uuid4().hex
        head = (
            f'--{border}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        tail = f'\r\n--{border}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n--{border}--\r\n'
        request = urllib.request.Request(
            f"{self.url}/upload/image",
            head.encode() + data + tail.encode(),
            {"Content-Type": f"multipart/form-data; boundary={border}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["name"]

    def file(self, shown: dict) -> bytes:
        """The file behind one entry of an output: {"filename", "subfolder", "type"}."""
        query = urllib.parse.urlencode({key: shown[key] for key in ("filename", "subfolder", "type")})
        with urllib.request.urlopen(f"{self.url}/view?{query}", timeout=30) as answer:
            return answer.read()

    def picture(self, shown: dict) -> np.ndarray:
        """The picture behind one entry of an output's "images" -> float (H, W, 3) in [0, 1]."""
        picture = Image.open(io.BytesIO(self.file(shown))).convert("RGB")
        return np.asarray(picture, dtype=np.float32) / 255

    def latent(self, run: Run, node: str) -> Tensor:
        """What a SaveLatent wrote: (B, 4, h, w)."""
        (shown,) = run.outputs[node]["latents"]
        return safetensors.torch.load(self.file(shown))["latent_tensor"]

    def pictures(self, run: Run, class_type: str = "SaveImage") -> list[np.ndarray]:
        """Every picture that the nodes of a type gave, in the order of their ids."""
        nodes = sorted((node for node in run.outputs if run.graph[node]["class_type"] == class_type), key=node_order)
        return [self.picture(shown) for node in nodes for shown in run.outputs[node].get("images", [])]


def node_order(node_id: str) -> tuple:
    """Sorts "2" before "10"."""
    return tuple(int(part) if part.isdigit() else -1 for part in node_id.split(":"))
