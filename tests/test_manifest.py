"""One file knows what the bundled checkpoint's files are called."""

import re

import pytest
from any2pix.loading.kinds import KINDS
from any2pix.miniature import manifest

ROOMS = ("nodes", "loading", "models", "stages", "datagen", "evaluation", "training")


def test_it_names_what_is_there():
    assert {path.name for path in manifest.FOLDER.glob("*.safetensors")} == set(manifest.EVERY)
    assert (manifest.FOLDER / manifest.TRAINING).is_file()
    assert set(manifest.OFFERED) <= set(KINDS)


@pytest.mark.parametrize("room", ROOMS)
def test_no_other_file_repeats_a_name(root, room):
    name = re.compile("|".join(f'"{re.escape(file)}"' for file in manifest.EVERY))
    assert [path.name for path in (root / room).rglob("*.py") if name.search(path.read_text("utf-8"))] == []
