"""What several tests of the trainings share."""

import pytest
from any2pix.datagen.pairs.shards import ShardFolder
from any2pix.datagen.toyland import Scene, render
from PIL import Image


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """Six pairs of drawings, as the data pipeline leaves them."""
    folder = ShardFolder(tmp_path_factory.mktemp("pairs"), "filter", ".tar")

    def make(index, counts):
        for number in range(3):
            scenes = [Scene("meadow", "cat", weather, "flat", 10 * index + number) for weather in ("rain", "night")]
            pictures = {
                name: Image.fromarray(render(scene))
                for name, scene in zip(("source.png", "edited.png"), scenes, strict=True)
            }
            yield {"__key__": f"{index}{number}", **pictures, "json": {"instruction": "make it night"}}

    folder.begin({"seed": 1})
    folder.run([0, 1], make)
    return folder
