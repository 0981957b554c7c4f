"""`make comfyui`: the workspace with its web page, until Ctrl+C.

With COMFYUI_PATH it is your own ComfyUI, with your models and pictures; the pack is linked into its custom_nodes.
"""

import os
import subprocess
import sys

import comfy_server
import workspace

USUAL_PORT = 8188


def main() -> int:
    arguments = ["--auto-launch", *comfy_server.device_arguments()]
    try:
        home = workspace.comfyui_path()
        if os.environ.get("COMFYUI_PATH"):
            workspace.link_pack(home / "custom_nodes")
        else:
            base = workspace.make_base(workspace.WORKSPACE / "base")
            arguments += ["--base-directory", str(base), "--database-url", f"sqlite:///{base / 'user' / 'comfyui.db'}"]
        python = workspace.comfyui_python()
    except workspace.SetupError as error:
        workspace.say(f"stopped: {error}")
        return 1
    port = comfy_server.free_port(preferred=int(os.environ.get("PORT", USUAL_PORT)))
    workspace.say(
        f"ComfyUI will be at http://127.0.0.1:{port} in a moment. Workflow > Browse Templates > {workspace.PACK_NAME}"
    )
    workspace.say("has the examples. Ctrl+C stops it.")
    try:
        return subprocess.call([python, home / "main.py", "--port", str(port), *arguments], cwd=home)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
