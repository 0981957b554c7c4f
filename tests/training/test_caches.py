"""What is computed once: under a name that says what it depends on, whole or absent, and by one process at a time."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from any2pix.models.imagebind import ImageBindDims
from any2pix.training import bank, digests, imagebind_data, train_autoencoder
from any2pix.training.bank import scene_bank
from any2pix.training.caches import cached, missing
from any2pix.training.llm_bank import family_bank
from any2pix.training.train_autoencoder import subject_masks


@pytest.fixture
def weights(tmp_path):
    file = tmp_path / "network.safetensors"
    file.write_bytes(b"one")
    return file


def test_masks_are_those_of_their_pictures(tmp_path):
    """The messy share changes which scenes are drawn from a seed; the masks follow."""
    for share in (0.0, 0.9):
        found = scene_bank(tmp_path, 6, seed=3, messy_share=share)
        expected = np.stack([np.packbits(train_autoencoder.subject_mask(scene)) for scene in found.scenes])
        assert np.array_equal(subject_masks(found, tmp_path), expected)
    assert len(list(tmp_path.glob("masks-*.npy"))) == 2


def test_a_bank_is_named_after_all_its_settings(tmp_path):
    settings = [{}, {"count": 3}, {"seed": 4}, {"split": "test"}, {"messy_share": 0.5}]
    plain = {"count": 2, "seed": 3, "split": "train", "messy_share": 0.0}
    keys = [scene_bank(tmp_path, **{**plain, **setting}).key for setting in settings]
    keys += [family_bank(tmp_path, 1, seed).key for seed in (3, 4)]
    assert len(set(keys)) == len(keys)
    assert keys[0] == scene_bank(tmp_path, **plain).key


def test_other_drawing_code_draws_again(tmp_path, monkeypatch):
    before = scene_bank(tmp_path, 2, seed=3)
    plain = digests.file_digest
    monkeypatch.setattr(
        digests, "file_digest", lambda path: "changed" if Path(path).name == "scenery.py" else plain(path)
    )
    drawn = []
    monkeypatch.setattr(bank, "render", lambda scene, cleanliness: drawn.append(scene) or np.zeros((128, 128, 3)))
    after = scene_bank(tmp_path, 2, seed=3)
    assert len(drawn) == 2 and after.key != before.key and not after.images.any() and before.images.any()


def test_sounds_are_named_after_how_they_are_made(tmp_path):
    small = ImageBindDims.miniature(600)
    banks = [imagebind_data.sound_bank(tmp_path, count, seed, small) for count, seed in ((2, 3), (3, 3), (2, 4))]
    assert [len(found.clips) for found in banks] == [2, 3, 2]
    assert not np.array_equal(banks[0].clips, banks[2].clips)
    assert len(list(tmp_path.glob("sounds-*.npy"))) == 3


def test_what_a_network_makes_is_kept_for_its_pictures_and_its_weights(tmp_path, weights):
    counts = iter(range(9))

    def found(key):
        return int(cached(tmp_path, "latents", key, weights, lambda: torch.tensor(next(counts))))

    assert [found("a"), found("a"), found("b"), found("a")] == [0, 0, 1, 0]
    weights.write_bytes(b"another")
    assert found("a") == 2


def test_a_computation_that_fails_leaves_nothing(tmp_path, weights):
    with pytest.raises(ZeroDivisionError):
        cached(tmp_path, "latents", "key", weights, lambda: 1 / 0)
    assert not list(tmp_path.glob("*.pt"))
    assert cached(tmp_path, "latents", "key", weights, lambda: torch.ones(1)) == 1


def test_a_bank_that_was_not_finished_is_drawn_again(tmp_path, monkeypatch):
    plain = bank.render

    def stop(scene, cleanliness):
        raise KeyboardInterrupt

    monkeypatch.setattr(bank, "render", stop)
    with pytest.raises(KeyboardInterrupt):
        scene_bank(tmp_path, 2, seed=3)
    monkeypatch.setattr(bank, "render", plain)
    assert scene_bank(tmp_path, 2, seed=3).images.any()


def test_two_that_want_the_same_compute_it_once(tmp_path, weights):
    entered, computed = threading.Barrier(2, timeout=20), []

    def compute():
        computed.append(threading.get_ident())
        threading.Event().wait(0.3)
        return torch.ones(3)

    def want():
        entered.wait()
        assert torch.equal(cached(tmp_path, "latents", "key", weights, compute), torch.ones(3))

    wanting = [threading.Thread(target=want) for _ in range(2)]
    for thread in wanting:
        thread.start()
    for thread in wanting:
        thread.join(30)
    assert len(computed) == 1


def test_what_is_there_needs_no_lock(tmp_path):
    (tmp_path / "there").write_text("whole")
    with missing(tmp_path / "there") as is_missing:
        assert not is_missing
    assert [file.name for file in tmp_path.iterdir()] == ["there"]
