"""A node pack that freezes its server in a node, so that a test can kill it just there.

POST /stop_in {"event": ..., "node": id}: at this message about this node ("executing": it begins, "progress": it is
under way) the whole process stops, as by SIGSTOP. Copied into a server's custom_nodes.
"""

import os
import signal

from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}
wanted: dict[str, str] = {}
host = PromptServer.instance
send = host.send_sync


def send_and_stop(event, data, sid=None):
    send(event, data, sid)
    if wanted and event == wanted["event"] and data.get("node") == wanted["node"]:
        os.kill(os.getpid(), signal.SIGSTOP)


@host.routes.post("/stop_in")
async def stop_in(request):
    wanted.update(await request.json())
    return web.json_response(wanted)


host.send_sync = send_and_stop
