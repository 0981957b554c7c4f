"""The real ComfyUI, started once for all tests of this folder, and ways to talk to it."""

import copy
import functools
import os
import shutil
from pathlib import Path

import comfy_server
import pytest
import torch
import workspace
from any2pix.evaluation.judge import load_judge, verdicts
from any2pix.loading.kinds import KINDS
from any2pix.miniature import manifest
from cli_runner import api_format
from comfyui_client.client import Client
from harness.adapter_graph import ADAPTERS, TWO_VIEW_FILE, Painting
from harness.edit_graph import edit_graph, missing_miniature
from harness.made_networks import write_control_lora, write_lora, write_slow_llm, write_two_view


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A ComfyUI on a free port with this pack in it, in a folder of its own."""
    if not workspace.comfyui_python().is_file() or not (workspace.comfyui_path() / "main.py").is_file():
        pytest.fail("there is no ComfyUI to test with: run `make setup` first, or set COMFYUI_PATH")
    base = workspace.make_base(tmp_path_factory.mktemp("comfyui"))
    shutil.copytree(Path(__file__).parent / "packs", base / "custom_nodes", dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        # What is freed goes back to the system, so that its memory tells what the server holds: glibc raises this
        # threshold by itself once larger blocks were freed, and then keeps the smaller ones.
        patch.setenv("MALLOC_MMAP_THRESHOLD_", str(2**20))
        if os.environ.get("DYNAMIC_VRAM"):  # by hand: the nodes' own tests run with it in any case
            patch.setenv("ANY2PIX_DYNAMIC_VRAM", str(Path(__file__).parent / "harness" / "dynamic_vram.py"))
        with comfy_server.ComfyServer(base, arguments=["--cpu", "--disable-api-nodes"]) as running:
            yield running


@pytest.fixture
def client(server):
    """A fresh API client; whatever a test leaves running is stopped after it."""
    client = Client(server.url)
    yield client
    client.post("/queue", {"clear": True})
    client.interrupt()
    client.close()


@pytest.fixture(scope="session")
def object_info(server):
    """What the server tells about every node."""
    return server.get("/object_info")


@pytest.fixture(scope="session")
def example(server, root):
    """name of an example workflow -> its graph in API format, the test's own to change; comfy-cli converts each
    once."""
    converted = functools.cache(lambda name: api_format(server, root / "workflows" / f"{name}.json"))
    return lambda name: copy.deepcopy(converted(name))


@pytest.fixture
def edit(object_info):
    """The whole edit as a graph, the test's own to change. Needs the bundled checkpoint."""
    missing = missing_miniature()
    if missing:
        pytest.fail(f"miniature/ lacks {', '.join(missing)}: the pack cannot run. `make train` trains them anew.")
    return edit_graph(object_info)


@pytest.fixture(scope="session")
def slow_llm_file(server):
    """(name, megabytes) of an LLM that nobody would wait for."""
    return write_slow_llm(server.base / "models", like=manifest.FOLDER / manifest.LLM)


@pytest.fixture
def slow_llm(slow_llm_file):
    return slow_llm_file[0]


@pytest.fixture
def slow_llm_megabytes(slow_llm_file):
    return slow_llm_file[1]


@pytest.fixture(scope="session")
def made_for_stock_nodes(server):
    """The LoRA and the ControlNet that an example workflow names and only these tests make."""
    unet = manifest.FOLDER / manifest.UNET
    write_lora(server.base / "models" / "loras" / "any2pix_miniature_lora.safetensors", unet)
    write_control_lora(server.base / "models" / "controlnet" / "any2pix_miniature_controlnet.safetensors", unet)


@pytest.fixture(scope="session")
def two_view_file(server):
    """A random two-view adapter of the miniature's size among the server's adapters."""
    file = server.base / "models" / KINDS["two_view"].folder / TWO_VIEW_FILE
    write_two_view(file, manifest.FOLDER / manifest.UNET, embed=64)


@pytest.fixture(params=ADAPTERS)
def painting(request, object_info, two_view_file):
    """An empty Painting for each kind of adapter."""
    return Painting(request.param, object_info)


@pytest.fixture(scope="session")
def judge():
    """The evaluation's classifier: (H, W, 3) in [0, 1] -> {"background", "subject", "weather", "style"}."""
    network = load_judge(manifest.FOLDER / manifest.JUDGE)
    return lambda picture: verdicts(network, torch.from_numpy(picture)[None])[0]


@pytest.fixture(scope="session")
def browser():
    """Opens front ends in Chromium. Without Chromium the test is skipped, with CI=true it fails."""
    executable = workspace.find_chromium()
    if executable is None:
        message = "NO BROWSER TESTS: there is no Chromium here; install it or set CHROMIUM to its path"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    from comfyui_client.browser import chromium

    with chromium(executable) as open_front_end:
        yield open_front_end


@pytest.fixture(scope="session")
def front_end(server, browser):
    """One page for all browser tests."""
    return browser(server.url)


@pytest.fixture(scope="module", params=(False, True), ids=("classic", "vue"))
def page(request, server, browser):
    """A page that draws nodes one way; classic again afterwards."""
    page = browser(server.url)
    page.draw_with_vue(request.param)
    yield page
    page.set_vue(False)
    page.page.close()


@pytest.fixture(scope="session")
def screenshots(root):
    """Where screenshots are kept to be looked at."""
    return root / "output" / "screenshots"
