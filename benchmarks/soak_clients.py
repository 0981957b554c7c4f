"""The soak's clients: ComfyUI's API from a thread each."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import statistics
import sys
import threading
import time
import urllib.parse
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from .soak_plan import Edit, Job
from .soak_report import Ended

ROOT = Path(__file__).resolve().parent.parent
WORKFLOW = ROOT / "workflows" / "edit_with_sound.json"
FINAL = ("execution_success", "execution_error", "execution_interrupted")
SILENCE_SECONDS = 300  # without a message of any prompt: the server hangs, what has not ended is lost
HISTORY_SECONDS = 30
ALPHA = 0.5  # of the noise mix: below 1 the seed decides too
MEGABYTE = 2**20


def add_tools() -> None:
    """Make tools/ importable: it starts ComfyUI."""
    sys.path.insert(0, str(ROOT / "tools"))


def request(url: str, body: dict | None = None) -> bytes:
    """POST of `body` as JSON, GET without one."""
    data = None if body is None else json.dumps(body).encode()
    headers = {} if data is None else {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=120) as answer:
        return answer.read()


def graph_of(graph: dict, edit: Edit, steps: int, prefix: str) -> dict:
    """The workflow, API format, set to one edit that saves under a prefix."""
    wanted = {
        "LoadImage": {"image": edit.picture},
        "LoadAudio": {"audio": edit.sound},
        "Any2PixInstruct": {"instruction": edit.instruction},
        "Any2PixDDIMInvert": {"steps": steps},
        "Any2PixNoiseMix": {"seed": edit.seed, "alpha": ALPHA},
        "Any2PixSampler": {"seed": edit.seed, "steps": steps},
        "SaveImage": {"filename_prefix": prefix},
    }
    graph = copy.deepcopy(graph)
    for class_type, inputs in wanted.items():
        (node,) = (body for body in graph.values() if body["class_type"] == class_type)
        if unknown := set(inputs) - set(node["inputs"]):
            raise KeyError(f"{WORKFLOW.name}: {class_type} has no input {', '.join(sorted(unknown))}")
        node["inputs"].update(inputs)
    return graph


class Client:
    """One websocket and what was queued through it. url: the server's address."""

    def __init__(self, url: str):
        import websocket

        self.url, self.id = url, uuid.uuid4().hex
        self.silence = websocket.WebSocketTimeoutException
        address = f"{url.replace('http', 'ws', 1)}/ws?clientId={self.id}"
        self.socket = websocket.create_connection(address, timeout=SILENCE_SECONDS)

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()

    def queue(self, graph: dict) -> str:
        """Queues a graph in API format -> the prompt's id."""
        answer = json.loads(request(f"{self.url}/prompt", {"prompt": graph, "client_id": self.id}))
        if answer["node_errors"]:
            raise ValueError(f"the server rejects the graph: {answer['node_errors']}")
        return answer["prompt_id"]

    def listen(self) -> tuple[str, str | None] | None:
        """(type, prompt id) of the next message; None after a long silence."""
        while True:
            try:
                message = self.socket.recv()
            except self.silence:
                return None
            if isinstance(message, str):  # else a preview picture
                parsed = json.loads(message)
                return parsed["type"], (parsed.get("data") or {}).get("prompt_id")

    def remembered(self, prompt_id: str) -> dict | None:
        """What the server's history holds of a prompt that ended; None where it never comes there.

        It comes a moment after the message that the prompt has ended.
        """
        deadline = time.monotonic() + HISTORY_SECONDS
        while time.monotonic() < deadline:
            if found := json.loads(request(f"{self.url}/history/{prompt_id}")):
                return found[prompt_id]
            time.sleep(0.05)
        return None

    def saved(self, remembered: dict) -> tuple[str, str]:
        """Name of the file that a prompt saved, and the digest of its pixels."""
        outputs = remembered["outputs"].values()
        (shown,) = (image for output in outputs for image in output.get("images", []) if image["type"] == "output")
        data = request(f"{self.url}/view?{urllib.parse.urlencode(shown)}")
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        return shown["filename"], hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def reference_digests(url: str, graph: dict, edits: list[Edit], steps: int) -> tuple[dict[Edit, str], float]:
    """Each edit run alone -> digest of its picture; and the median seconds of one."""
    digests, seconds = {}, []
    with Client(url) as client:
        for number, edit in enumerate(edits):
            started = time.perf_counter()
            prompt = client.queue(graph_of(graph, edit, steps, f"alone_{number:04}_"))
            while (message := client.listen()) and not (message[1] == prompt and message[0] in FINAL):
                pass
            if message is None or message[0] != "execution_success":
                raise RuntimeError(f"{edit} does not run alone: {message}")
            seconds.append(time.perf_counter() - started)
            digests[edit] = client.saved(client.remembered(prompt))[1]
    return digests, statistics.median(seconds)


def interrupt_later(url: str, job: Job, prompt_id: str, seconds: float) -> None:
    """Posts a job's interrupt when its time has come; `seconds` is what an edit usually takes."""
    body = {} if job.interrupt.whatever_runs else {"prompt_id": prompt_id}
    timer = threading.Timer(job.interrupt.share * seconds, request, (f"{url}/interrupt", body))
    timer.daemon = True
    timer.start()


def follow(client: Client, jobs: dict[str, Job], seconds: float, resident) -> list[Ended]:
    """Listens until every job has ended or nothing is heard any more. `resident()`: the server's memory now, MB."""
    ended: list[Ended] = []
    waiting = dict(jobs)
    while waiting and (message := client.listen()):
        kind, prompt_id = message
        if prompt_id not in waiting:
            continue
        job = waiting[prompt_id]
        if kind == "execution_start" and job.interrupt:
            interrupt_later(client.url, job, prompt_id, seconds)
        if kind in FINAL:
            del waiting[prompt_id]
            memory, moment = resident(), time.time()
            remembered = client.remembered(prompt_id)
            picture = client.saved(remembered) if remembered and kind == "execution_success" else (None, None)
            outcome = kind.removeprefix("execution_") if remembered else "forgotten"
            ended.append(Ended(job, outcome, moment, memory, *picture))
    return ended


def run_all(server, graph: dict, jobs: list[list[Job]], steps: int, seconds: float) -> tuple[list[Ended], float]:
    """Queues everything, then follows it to the end -> what ended, in order, and the seconds it took.

    `server`: a running tools/comfy_server.ComfyServer.
    """
    import psutil

    process = psutil.Process(server.process.pid)
    started = time.perf_counter()
    all_queued = threading.Barrier(len(jobs))

    def one_client(queue: list[Job]) -> list[Ended]:
        with Client(server.url) as client:
            queued = {client.queue(graph_of(graph, job.edit, steps, job.prefix)): job for job in queue}
            all_queued.wait(SILENCE_SECONDS)
            return follow(client, queued, seconds, lambda: process.memory_info().rss / MEGABYTE)

    with ThreadPoolExecutor(len(jobs)) as pool:
        ended = [one for part in pool.map(one_client, jobs) for one in part]
    return sorted(ended, key=lambda one: one.moment), time.perf_counter() - started
