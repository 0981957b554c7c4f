"""A ComfyUI server on a free loopback port, for as long as a `with` block runs."""

import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import workspace

START_SECONDS = 300  # a cold disk and busy cores; ten seconds is usual
STOP_SECONDS = 10


def free_port(preferred: int = 0) -> int:
    """A loopback port that nothing listens on now: the preferred one where it is free."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def device_arguments() -> list[str]:
    """`--cpu` where no graphics card shows: ComfyUI stops at start-up without it."""
    has_card = shutil.which("nvidia-smi") or Path("/dev/kfd").exists() or platform.system() == "Darwin"
    return [] if has_card else ["--cpu"]


def quiet_environment(home: Path) -> dict[str, str]:
    """The environment for ComfyUI and comfy-cli: no telemetry, no hub, settings under `home`, not in the user's."""
    (home / ".config").mkdir(parents=True, exist_ok=True)
    extra = {
        "HOME": str(home),
        "DO_NOT_TRACK": "1",
        "COMFY_NO_WATCH": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait by spinning crawl on a computer with other work to do
    }
    return {**os.environ, **extra}


class ComfyServer:
    """`with ComfyServer(base) as server: server.url`. The server is stopped whatever happens inside.

    base: a folder made by `workspace.make_base`. port: None for a free one.
    arguments: more words for ComfyUI's main.py.
    """

    def __init__(self, base: Path, port: int | None = None, arguments: list[str] | None = None):
        self.base, self.port = Path(base), port or free_port()
        self.arguments = device_arguments() if arguments is None else arguments
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = self.base / f"server_{self.port}.log"
        self.process: subprocess.Popen | None = None

    def command(self) -> list[str]:
        database = f"sqlite:///{self.base / 'user' / 'comfyui.db'}"
        words = [
            workspace.comfyui_python(),
            workspace.comfyui_path() / "main.py",
            "--port",
            self.port,
            "--base-directory",
            self.base,
            "--database-url",
            database,
            "--disable-auto-launch",
            *self.arguments,
        ]
        return [str(word) for word in words]

    def __enter__(self) -> "ComfyServer":
        with self.log.open("wb") as log:
            # a session of its own, so that stopping it ends what it started too
            self.process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.base,
                env=quiet_environment(self.base / "home"),
                start_new_session=True,
            )
        try:
            self.wait_until_up()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception) -> None:
        self.stop()

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI stopped while starting. The end of {self.log}:\n{self.log_tail()}")
            try:
                self.get("/system_stats")
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.25)
        raise RuntimeError(f"ComfyUI was not up after {START_SECONDS} s. The end of {self.log}:\n{self.log_tail()}")

    def get(self, path: str):
        """The JSON that the server answers to GET `path`."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def log_tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
