"""The pack starts and its nodes run where nothing is installed but what ComfyUI brings."""

import json
import subprocess
import sys

import pytest
import workspace

pytestmark = pytest.mark.one_host

# no ComfyUI brings these; sentencepiece only an LLM folder with tokenizer.model needs
NOT_NEEDED = ("diffusers", "accelerate", "datasets", "matplotlib", "sentencepiece")
SCRIPT = (
    f"""
import asyncio, json, sys, tempfile
for name in {NOT_NEEDED}:
    sys.modules[name] = None  # as if it were not installed
"""
    + """
sys.path.insert(0, sys.argv[1])
from comfy.cli_args import args
args.cpu, args.base_directory = True, tempfile.mkdtemp()
import nodes, comfy_api.latest, torch
import any2pix.nodes as pack
from transformers import CLIPTextModel, GPT2Model, LlamaModel  # while they find torchaudio, as they have looked for it
sys.modules["torchaudio"] = None  # ComfyUI 0.3.75 has imported it; later ones do without
asyncio.run(pack.comfy_entrypoint())
loaders = (
    pack.LoadImageBind, pack.LoadLLM, pack.LoadPrior, pack.LoadAdapter, pack.LoadDiffusion, pack.LoadInstructPix2Pix
)
with torch.inference_mode():
    imagebind, llm, *others = (node.execute(name="miniature").result[0] for node in loaders)
    sound = {"waveform": torch.rand(1, 2, 44100) - 0.5, "sample_rate": 44100}
    references = pack.AudioEmbedding.execute(imagebind=imagebind, audio=sound).result[0]
    try:
        asked = {"instruction": "add [audio1]", "seed": 0, "temperature": 0.0, "max_new_tokens": 4}
        pack.Instruct.execute(llm=llm, references=references, **asked)
        answer = ""
    except ValueError as error:
        answer = str(error)
print(json.dumps({"loaded": 2 + len(others), "norm": float(references[0].embedding.norm()), "answer": answer}))
"""
)

SLOW_TO_IMPORT = ("transformers", "diffusers", "torchaudio")
START = (
    """
import asyncio, sys, tempfile
sys.path.insert(0, sys.argv[1])
from comfy.cli_args import args
args.cpu, args.base_directory = True, tempfile.mkdtemp()
import nodes, comfy_api.latest
"""
    + f"""
for name in {SLOW_TO_IMPORT}:
    sys.modules[name] = None
"""
    + """
import any2pix.nodes as pack
extension = asyncio.run(pack.comfy_entrypoint())
for node in asyncio.run(extension.get_node_list()):
    node.GET_SCHEMA()
"""
)


def test_the_pack_starts_without_what_is_slow_to_import():
    """An artist waits for every import at each start of ComfyUI."""
    done = subprocess.run(
        [sys.executable, "-c", START, str(workspace.comfyui_path())], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_nodes_run_on_what_comfyui_brings():
    """Four tokens are no answer: the LLM has decoded when the node says so."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(workspace.comfyui_path())], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["loaded"] == 6
    assert 10 < said["norm"] < 20.1
    assert "answer" in said["answer"]
