"""Shards of a run that is killed, at every moment there is: what is finished is whole, what is not is made again."""

import subprocess
import sys

import pytest
from any2pix.datagen.pairs.shards import ShardFolder

KILLED = """
import os, signal, sys
from pathlib import Path
from PIL import Image
from any2pix.datagen.pairs.shards import ShardFolder

replace, left = os.replace, 0

def moment():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def replace_between_moments(part, place):
    moment()
    replace(part, place)
    moment()

def make(index, counts):
    for row in range(3):
        moment()
        counts["odd"] += row % 2
        picture = Image.new("RGB", (8, 8), (row, index, 0))
        yield {"__key__": f"{index}_{row}", "source.png": picture, "json": {"row": row}}

os.replace = replace_between_moments
for last in range(1, int(sys.argv[2]) + 1):
    if os.fork() == 0:
        left = last
        shards = ShardFolder(Path(sys.argv[1]) / str(last), "pictures", ".tar")
        shards.begin({"seed": 0})
        shards.run(range(2), make)
        os._exit(7)
    os.wait()
"""
MOMENTS = 2 + 2 * (3 + 2 + 2)  # stage.json; of each shard: its samples, the shard and its counts, each before and after


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Folders "1", "2" ..: a run killed at that moment; at the one after the last it got through."""
    folder = tmp_path_factory.mktemp("killed")
    subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(MOMENTS + 1)], check=True, capture_output=True, timeout=300
    )
    return folder


def shards_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".part"}


def resumed(folder):
    from PIL import Image

    made = []

    def make(index, counts):
        made.append(index)
        for row in range(3):
            counts["odd"] += row % 2
            yield {
                "__key__": f"{index}_{row}",
                "source.png": Image.new("RGB", (8, 8), (row, index, 0)),
                "json": {"row": row},
            }

    shards = ShardFolder(folder, "pictures", ".tar")
    shards.begin({"seed": 0})
    return shards.run(range(2), make), made


def test_a_killed_run_goes_on_to_the_same_files_and_counts(killed):
    whole = shards_of(killed / str(MOMENTS + 1))
    assert sorted(whole) == [
        "pictures-00000.counts.json", "pictures-00000.tar", "pictures-00001.counts.json", "pictures-00001.tar",
        "stage.json",
    ]  # fmt: skip
    left = []
    for moment in range(1, MOMENTS + 1):
        folder = killed / str(moment)
        before = shards_of(folder)
        assert all(whole[name] == content for name, content in before.items()), f"half a file after a kill at {moment}"
        left.append(len(before))
        finished = ShardFolder(folder, "pictures", ".tar").finished()
        totals, made = resumed(folder)
        assert totals == {"kept": 6, "odd": 2} and made == [i for i in range(2) if i not in finished]
        assert shards_of(folder) == whole
        assert not list(folder.glob("pictures-*.part"))
    assert left == [0, 1, 1, 1, 1, 1, 2, 2, 3, 3, 3, 3, 3, 4, 4, 5]


def test_two_writers_of_one_shard_do_not_write_into_one_file(tmp_path):
    """A run that was thought dead comes to life while another makes the same shard: whole files, whoever was first."""
    shards = ShardFolder(tmp_path, "captions", ".jsonl")

    def make(index, counts):
        yield {"row": 0}
        if not shards.finished():
            shards.run([0], make_again)
        yield {"row": 1}

    def make_again(index, counts):
        yield from ({"row": 0}, {"row": 1})

    with pytest.raises(FileNotFoundError):
        shards.run([0], make)
    assert list(shards.read(0)) == [{"row": 0}, {"row": 1}] and shards.counts(0) == {"kept": 2}


def test_a_run_as_quick_as_another_checks_the_settings_that_won(tmp_path, monkeypatch):
    other, shards = (ShardFolder(tmp_path, "captions", ".jsonl") for _ in range(2))
    from any2pix.datagen.pairs import shards as module

    write = module._write_whole

    def late(place, content):
        monkeypatch.setattr(module, "_write_whole", write)
        write(place, content)
        write(place, b'{"seed": 1}')

    monkeypatch.setattr(module, "_write_whole", late)
    with pytest.raises(ValueError, match="seed 1 -> 0"):
        shards.begin({"seed": 0})
    other.begin({"seed": 1})
