"""Runs comfy-cli against a server that we started, and reads its events."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import comfy_server
import workspace

SILENCE_SECONDS = 600  # the longest silence of the server that comfy-cli bears


class CliError(RuntimeError):
    """comfy-cli failed; the text says why, `.error` is its own error object: {"code", "message", "details"}."""

    def __init__(self, error: dict, complaints: str):
        said = (error.get("message"), error.get("hint"), (error.get("details") or {}).get("exception_message"))
        super().__init__("comfy-cli: " + ("\n".join(filter(None, said)) or complaints[-2000:]))
        self.error = error


def run_cli(
    server: comfy_server.ComfyServer, *words: str | Path, show: Callable[[dict], None] = lambda event: None
) -> list[dict]:
    """`comfy run WORDS` on the server -> its events, each handed to `show` as it comes, the envelope last."""
    program = workspace.venv_python().parent / "comfy"
    command = [program, "--skip-prompt", "--json-stream", "--workspace", workspace.comfyui_path(), "run"]
    command += ["--host", "127.0.0.1", "--port", server.port, "--timeout", SILENCE_SECONDS, *words]
    process = subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=comfy_server.quiet_environment(server.base / "home"),
    )
    events: list[dict] = []
    for line in process.stdout:
        if line.startswith("{"):
            events.append(json.loads(line))
            show(events[-1])
    complaints = process.stderr.read()
    if process.wait() or not events or not events[-1].get("ok", True):
        raise CliError((events[-1].get("error") if events else None) or {}, complaints)
    return events


def api_format(server: comfy_server.ComfyServer, workflow: Path) -> dict:
    """A workflow file of either format -> API format, as comfy-cli converts it."""
    events = run_cli(server, "--workflow", workflow, "--print-prompt")
    return next(event["prompt"] for event in events if event.get("type") == "prompt_preview")
