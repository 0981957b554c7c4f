"""What is saved comes back bit for bit, under its own name, and nothing else is touched or believed."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from any2pix.loading import saved as saved_files
from any2pix.loading.errors import CheckpointError
from any2pix.loading.saved import META_SAVED, clean_name, write_saved
from any2pix.nodes import (
    ApplyEmbedding,
    AudioEmbedding,
    DDIMInvert,
    EmbeddingSampler,
    ImageEmbedding,
    LoadEmbedding,
    LoadInversion,
    LoadReferences,
    NoiseMix,
    PickReference,
    RetrieveBase,
    SaveEmbedding,
    SaveInversion,
    SaveReferences,
    TextEmbedding,
)
from any2pix.nodes.folders import folder_key
from any2pix.nodes.identity import identify, sample_weights
from any2pix.nodes.inverted import INVERSION_KEY, inversion_of
from any2pix.nodes.saved import NOTHING_SAVED, recipe_of, saved_names
from any2pix.nodes.sockets import Embedding
from any2pix.stages.types import Reference
from safetensors import safe_open
from safetensors.torch import load_file, save_file

STEPS = 4
KINDS = {"references": (SaveReferences, LoadReferences), "embedding": (SaveEmbedding, LoadEmbedding),
         "inversion": (SaveInversion, LoadInversion)}  # fmt: skip


@pytest.fixture(autouse=True)
def folders(tiny, tmp_path, monkeypatch):
    """Each test has model folders of its own: kind -> folder."""
    import folder_paths

    for kind in KINDS:
        entry = ([str(tmp_path / kind)], {".safetensors", ".pt"})
        monkeypatch.setitem(folder_paths.folder_names_and_paths, folder_key(kind), entry)
    folder_paths.filename_list_cache.clear()
    yield {kind: tmp_path / kind for kind in KINDS}
    folder_paths.filename_list_cache.clear()


@pytest.fixture(scope="module")
def references(run, networks):
    """A picture of 8 bits, one that was scaled, a sound, a text."""
    generator = torch.Generator().manual_seed(3)
    levels = torch.randint(0, 256, (1, 40, 48, 3), generator=generator).float() / 255.0  # as LoadImage reads it
    between = torch.rand(1, 33, 32, 3, generator=generator)
    sound = {"waveform": torch.rand(1, 2, 8000, generator=generator) - 0.5, "sample_rate": 8000}
    chain = ()
    for picture in (levels, between):
        chain = run(ImageEmbedding, imagebind=networks["imagebind"], image=picture, references=chain)[0]
    chain = run(AudioEmbedding, imagebind=networks["imagebind"], audio=sound, references=chain)[0]
    return run(TextEmbedding, imagebind=networks["imagebind"], text="a cat", references=chain)[0]


@pytest.fixture(scope="module")
def vector():
    return Embedding(
        20 * torch.nn.functional.normalize(torch.randn(64, generator=torch.Generator().manual_seed(1)), dim=0)
    )


@pytest.fixture(scope="module")
def clean():
    return {"samples": torch.randn(1, 4, 6, 9, generator=torch.Generator().manual_seed(8)) / 0.13025}


@pytest.fixture(scope="module")
def invert(run, networks, vector):
    """latent, inputs of DDIM Invert -> LATENT, NOISE, SIGMAS."""
    model, positive, _ = run(
        ApplyEmbedding, model=networks["model"], adapter=networks["adapter"], embedding=vector, scale=1.0, start_percent=0.0,
        end_percent=1.0
    )  # fmt: skip

    def inverted(latent, **more):
        widgets = {"steps": STEPS, "scheduler": "normal", "iterations": 5, "tolerance": 1e-4, **more}
        return run(DDIMInvert, **{"model": model, "conditioning": positive, "latent": latent, **widgets})

    return inverted


@pytest.fixture(scope="module")
def paint(run, networks, vector):
    def painted(latent, steps=STEPS):
        widgets = {"seed": 5, "steps": steps, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal"}
        network = {"model": networks["model"], "adapter": networks["adapter"]}
        return run(EmbeddingSampler, **network, embedding=vector, latent=latent, **widgets)[0]["samples"]

    return painted


@pytest.fixture(scope="module")
def contents(references, vector, invert, clean):
    """kind -> (name of the socket, two different contents)."""
    moved = {"samples": clean["samples"] + 1}
    return {
        "references": ("references", references, references[:2]),
        "embedding": ("embedding", vector, Embedding(vector.vector + 1)),
        "inversion": ("latent", invert(clean)[0], invert(moved)[0]),
    }


def keep(run, kind, content, name, overwrite=False, socket=None):
    sockets = {"references": "references", "embedding": "embedding", "inversion": "latent"}
    return run(KINDS[kind][0], name=name, overwrite=overwrite, **{socket or sockets[kind]: content})


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def record_of(path: Path) -> dict:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()[META_SAVED])


def rewrite(path: Path, change=lambda record: None, tensors=lambda tensors: None) -> None:
    """The file again with another record or other tensors, as somebody else might have written it."""
    record, content = record_of(path), load_file(path)
    change(record)
    tensors(content)
    save_file(content, path, {META_SAVED: json.dumps(record)})


# What comes back ------------------------------------------------------------------------------------------------------


def test_references_come_back_bit_for_bit_with_their_pictures(run, references, folders):
    labelled = (replace(references[0], label="früh 猫"), *references[1:])
    keep(run, "references", labelled, "animals/my cats")
    assert saved_names("references") == [os.path.join("animals", "my cats.safetensors")]
    (loaded,) = run(LoadReferences, name=saved_names("references")[0])
    assert len(loaded) == len(labelled)
    for one, other in zip(loaded, labelled):
        assert torch.equal(one.embedding, other.embedding) and one.embedding.dtype == other.embedding.dtype
        assert (one.modality, one.label, one.origin) == (other.modality, other.label, other.origin)
        assert (one.image is None) == (other.image is None)
        if one.image is not None:
            assert torch.equal(one.image, other.image) and one.image.dtype == torch.float32
    stored = load_file(folders["references"] / "animals" / "my cats.safetensors")
    assert [stored[f"any2pix_reference.{i}.image"].dtype for i in (0, 1)] == [torch.uint8, torch.float32]


def test_base_retrieval_finds_the_same_picture_in_a_loaded_chain(run, references):
    keep(run, "references", references, "cats")
    (loaded,) = run(LoadReferences, name="cats.safetensors")
    base = Embedding(references[1].embedding)
    image, embedding, index = run(RetrieveBase, references=loaded, base=base, blank_size=64)
    expected = run(RetrieveBase, references=references, base=base, blank_size=64)
    assert (
        index == expected[2] and torch.equal(image, expected[0]) and torch.equal(embedding.vector, expected[1].vector)
    )


def test_loaded_references_come_after_those_before_them(run, references):
    keep(run, "references", references[2:], "sounds")
    (chain,) = run(LoadReferences, name="sounds.safetensors", references=references[:2])
    assert [reference.modality for reference in chain] == ["image", "image", "audio", "text"]


def test_a_file_says_which_network_made_it(run, references, networks, folders):
    keep(run, "references", references, "cats")
    record = record_of(folders["references"] / "cats.safetensors")
    assert record["dims"] == 64 and record["pack"].count(".") == 2
    origin = record["references"][0]["origin"]
    assert origin.startswith("ImageBind, 64 numbers, ") and len(origin.rpartition("#")[2]) == 8
    shown = LoadReferences.execute("cats.safetensors").ui.as_dict()["text"][0]
    assert origin in shown and "[image2]  32 x 33" in shown and "[text1]" in shown and "saved 20" in shown


@pytest.mark.parametrize("candidates", [(), (0, 2)])
def test_an_embedding_comes_back(run, vector, candidates):
    keep(run, "embedding", replace(vector, candidates=candidates), "snow")
    (loaded,) = run(LoadEmbedding, name="snow.safetensors")
    assert torch.equal(loaded.vector, vector.vector) and loaded.candidates == candidates


def test_base_null_comes_back_as_that(run):
    keep(run, "embedding", Embedding(None, (1,)), "nothing")
    (loaded,) = run(LoadEmbedding, name="nothing.safetensors")
    assert loaded.is_null and loaded.candidates == (1,)


@pytest.mark.parametrize("how", ["plain", "masked", "from a step", "<base_null>", "mixed"])
def test_an_inversion_paints_the_same_picture(run, invert, paint, clean, how):
    latent = dict(clean, batch_index=[7])
    if how == "masked":
        latent["noise_mask"] = torch.zeros(1, 48, 72).index_fill(2, torch.arange(30), 1.0)
    latent, noise, sigmas = invert(
        latent, start_at_step=1 if how == "from a step" else 0, base=Embedding(None) if how == "<base_null>" else None
    )
    if how == "mixed":
        latent, noise = run(NoiseMix, latent=latent, seed=3, alpha=0.6, mode="paper")
    keep(run, "inversion", latent, "meadow")
    again, its_noise, its_sigmas = run(LoadInversion, name="meadow.safetensors")
    assert again["batch_index"] == [7] and torch.equal(its_sigmas, sigmas)
    assert ("noise_mask" in again) == ("noise_mask" in latent)
    assert torch.equal(again["samples"], latent["samples"])
    assert torch.equal(paint(again), paint(latent))
    assert torch.equal(its_noise.generate_noise(clean), noise.generate_noise(clean))
    one, other = inversion_of(again), inversion_of(latent)
    for name in ("scheduler", "steps", "start_step", "sigma_max", "blank", "alpha", "settings"):
        assert getattr(one, name) == getattr(other, name), name
    remixed = [run(NoiseMix, latent=which, seed=9, alpha=0.5, mode="polar")[0]["samples"] for which in (again, latent)]
    assert torch.equal(*remixed)


def test_the_sampler_names_what_differs_from_a_loaded_inversion(run, invert, paint, clean):
    keep(run, "inversion", invert(clean)[0], "meadow")
    with pytest.raises(ValueError, match=f"Set steps to {STEPS} on both"):
        paint(run(LoadInversion, name="meadow.safetensors")[0], steps=STEPS + 1)


def test_the_node_shows_how_an_inversion_was_made(run, invert, clean):
    keep(run, "inversion", invert(clean, start_at_step=1)[0], "meadow")
    shown = LoadInversion.execute("meadow.safetensors").ui.as_dict()["text"][0]
    for word in (
        f"steps {STEPS} from step 1",
        "scheduler normal",
        "9 x 6",
        "made with SDXL",
        "iterations 5",
        "tolerance 0.0001",
        "cfg 1",
    ):
        assert word in shown, shown


def test_only_an_inversion_is_saved_as_one(run, invert, clean):
    with pytest.raises(ValueError, match="this one was not inverted"):
        keep(run, "inversion", clean, "meadow")
    latent = invert(clean)[0]
    other_noise = torch.randn(latent["samples"].shape, generator=torch.Generator().manual_seed(4)) * 14.6 / 0.13025
    with pytest.raises(ValueError, match="was changed on its way"):
        keep(run, "inversion", {**latent, "samples": other_noise}, "meadow")


def test_a_latent_format_that_a_file_cannot_name_is_refused(run, invert, clean):
    import comfy.latent_formats

    class Unheard(comfy.latent_formats.SDXL):
        pass

    latent = invert(clean)[0]
    inversion = replace(latent[INVERSION_KEY], latent_format=Unheard())
    with pytest.raises(ValueError, match="latent format Unheard is none of ComfyUI's own"):
        keep(run, "inversion", {**latent, INVERSION_KEY: inversion}, "meadow")


def test_what_no_file_can_hold_is_named(invert, clean):
    latent = {**invert(clean)[0], "downscale_ratio_spacial": 8, "something": object()}
    shown = SaveInversion.execute(latent, "meadow", False).ui.as_dict()["text"][0]
    assert "not saved of the latent: something" in shown
    assert LoadInversion.execute("meadow.safetensors").result[0]["downscale_ratio_spacial"] == 8


# Which model --------------------------------------------------------------------------------------------------------


@pytest.fixture
def with_lora(networks):
    """MODEL with a LoRA of this strength on some weights."""

    def add(strength):
        model = networks["model"].clone()
        keys = [
            f"diffusion_model.{name}"
            for name, weight in model.model.diffusion_model.named_parameters()
            if weight.ndim > 1
        ]
        weights = model.model.state_dict()
        patches = {key: ("diff", (torch.full_like(weights[key], 0.01),)) for key in keys[::3]}
        assert model.add_patches(patches, strength)
        return model

    return add


def test_a_model_of_another_lora_is_named(run, invert, clean, networks, with_lora):
    keep(run, "inversion", invert(clean, model=with_lora(0.5))[0], "meadow")
    run(LoadInversion, name="meadow.safetensors", model=with_lora(0.5))
    run(LoadInversion, name="meadow.safetensors")
    for other in (with_lora(0.25), networks["model"]):
        with pytest.raises(ValueError, match="was made with other LoRAs or other strengths"):
            run(LoadInversion, name="meadow.safetensors", model=other)
    keep(run, "inversion", invert(clean)[0], "plain")
    with pytest.raises(ValueError, match="was made with the model without a LoRA"):
        run(LoadInversion, name="plain.safetensors", model=with_lora(0.5))


def test_a_lora_that_is_added_into_the_weights_is_looked_behind(networks, with_lora):
    from comfy.model_management import load_models_gpu

    plain, patched = identify(networks["model"]), with_lora(5.0)
    load_models_gpu([patched])
    try:
        raw = sample_weights(patched.model.diffusion_model)
        assert not torch.equal(raw, plain.weights), "the LoRA is in the weights"
        for model in (patched, networks["model"]):
            assert torch.equal(identify(model).weights, plain.weights)
    finally:
        load_models_gpu([networks["model"]])
    assert torch.equal(sample_weights(patched.model.diffusion_model), plain.weights)


def test_other_weights_are_named_and_another_precision_is_not(run, invert, clean, networks):
    latent = invert(clean)[0]
    made = latent[INVERSION_KEY].model

    def saved_with(weights):
        inversion = replace(latent[INVERSION_KEY], model=replace(made, weights=weights))
        keep(run, "inversion", {**latent, INVERSION_KEY: inversion}, "meadow", overwrite=True)
        return run(LoadInversion, name="meadow.safetensors", model=networks["model"])

    saved_with(made.weights.half().float())
    saved_with(made.weights.bfloat16().float())
    noise = torch.randn(made.weights.shape, generator=torch.Generator().manual_seed(2))
    with pytest.raises(ValueError, match="was made with other weights"):
        saved_with(made.weights + 0.02 * noise * made.weights.abs().mean())
    with pytest.raises(ValueError, match="a model of other sizes"):
        saved_with(made.weights[:-3])


# Names and places -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_content_gives_the_same_bytes_and_another_one_a_number(run, contents, folders, kind):
    socket, one, other = contents[kind]
    keep(run, kind, one, "a")
    first = (folders[kind] / "a.safetensors").read_bytes()
    for _ in range(3):
        keep(run, kind, one, "a")
    assert files_in(folders[kind]) == ["a.safetensors"]
    keep(run, kind, other, "a")
    keep(run, kind, other, "a.safetensors")
    assert files_in(folders[kind]) == ["a.safetensors", "a_00002.safetensors"]
    assert (folders[kind] / "a.safetensors").read_bytes() == first
    keep(run, kind, one, "b")
    assert (folders[kind] / "b.safetensors").read_bytes() == first


@pytest.mark.parametrize("kind", KINDS)
def test_overwrite_replaces_what_is_of_its_kind_only(run, contents, folders, kind):
    _, one, other = contents[kind]
    keep(run, kind, one, "a")
    before = (folders[kind] / "a.safetensors").read_bytes()
    keep(run, kind, other, "a", overwrite=True)
    assert files_in(folders[kind]) == ["a.safetensors"] and (folders[kind] / "a.safetensors").read_bytes() != before
    for content in (b"", b"somebody's notes", (folders[kind].parent / "foreign").write_bytes(b"x") and b"\0" * 100):
        (folders[kind] / "b.safetensors").write_bytes(content)
        with pytest.raises(CheckpointError, match="It is left as it is: write another name"):
            keep(run, kind, one, "b", overwrite=True)
        assert (folders[kind] / "b.safetensors").read_bytes() == content
    save_file({"any_weight": torch.zeros(3)}, folders[kind] / "c.safetensors")
    with pytest.raises(CheckpointError, match="It is left as it is"):
        keep(run, kind, one, "c", overwrite=True)


@pytest.mark.parametrize(
    "name", ["", "  ", "..", "../a", "a/../../b", "/etc/a", "\\\\host\\a", "C:\\a", "a//b", "a\0b", "a\nb", "con", "nul.x", "a.",
             ".hidden", "what?", "\ud800", "é" * 101]
)  # fmt: skip
def test_a_name_that_is_none_is_named_and_nothing_is_written(run, vector, folders, name):
    with pytest.raises(ValueError, match="(?s)name.*Write (one|another one)"):
        keep(run, "embedding", vector, name)
    said = SaveEmbedding.validate_inputs(name=name)
    assert isinstance(said, str) and "name" in said
    assert files_in(folders["embedding"].parent) == []


@pytest.mark.parametrize(
    "name, parts", [("a", ("a",)), (" b /c.safetensors", ("b", "c")), ("x\\y", ("x", "y")), ("v1.5 猫", ("v1.5 猫",))]
)
def test_good_names(name, parts):
    assert clean_name(name) == parts
    assert SaveReferences.validate_inputs(name=name) is True and SaveReferences.validate_inputs() is True


def test_composed_and_decomposed_letters_are_one_name():
    assert clean_name("u\u0308") == clean_name("\u00fc") == ("\u00fc",)


def test_a_link_that_leads_out_is_not_followed(run, vector, folders, tmp_path):
    (tmp_path / "outside").mkdir()
    folders["embedding"].mkdir()
    (folders["embedding"] / "out").symlink_to(tmp_path / "outside", target_is_directory=True)
    with pytest.raises(ValueError, match="leads out of .* through a link"):
        keep(run, "embedding", vector, "out/a")
    (folders["embedding"] / "b.safetensors").symlink_to(tmp_path / "outside" / "theirs.safetensors")
    keep(run, "embedding", vector, "b")
    assert files_in(tmp_path / "outside") == []
    assert (folders["embedding"] / "b_00002.safetensors").is_file()


def test_a_file_in_the_place_of_a_folder_is_named(run, vector, folders):
    folders["embedding"].mkdir()
    (folders["embedding"] / "a").write_text("")
    with pytest.raises(CheckpointError, match="a part of its path is a file"):
        keep(run, "embedding", vector, "a/b")


@pytest.mark.parametrize(
    "number, said", [(errno.ENOSPC, "the disk is full, 0.1 MB are needed. Make room"), (errno.EROFS, "may not be written to"),
                     (errno.EACCES, "may not be written to"), (errno.EIO, "was not saved")]
)  # fmt: skip
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_disk_that_does_not_take_it_is_named_and_the_old_file_stays(
    run, contents, folders, monkeypatch, number, said, overwrite
):
    _, one, other = contents["embedding"]
    keep(run, "embedding", one, "a")
    before = (folders["embedding"] / "a.safetensors").read_bytes()

    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(saved_files.os, "fsync", fail)
    with pytest.raises(CheckpointError, match=said):
        keep(run, "embedding", other, "a", overwrite=overwrite)
    assert files_in(folders["embedding"]) == ["a.safetensors"]
    assert (folders["embedding"] / "a.safetensors").read_bytes() == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(run, vector, folders):
    folders["embedding"].mkdir()
    folders["embedding"].chmod(0o500)
    with pytest.raises(CheckpointError, match="may not be written to"):
        keep(run, "embedding", vector, "a")


def test_a_full_disk_is_named(run, vector, folders):
    """A limit on the size of files, as a quota is."""
    import resource
    import signal

    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, old[1]))
        with pytest.raises(CheckpointError, match="the disk is full"):
            keep(run, "embedding", vector, "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert files_in(folders["embedding"]) == []


# What cannot be read --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_there_is_named_before_anything_runs(kind, folders):
    load = KINDS[kind][1]
    assert saved_names(kind) == [NOTHING_SAVED]
    said = load.validate_inputs(name=NOTHING_SAVED)
    assert (
        "Nothing is saved in" in said
        and str(folders[kind]) in said
        and load.fingerprint_inputs(name=NOTHING_SAVED) == "missing"
    )
    for name in ("gone.safetensors", "../a.safetensors", "/etc/passwd", "miniature"):
        said = load.validate_inputs(name=name)
        assert str(folders[kind]) in said and "Save it with" in said
    assert load.validate_inputs() is True, "a name that another node gives"


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_file_is_read_again(run, contents, folders, kind):
    _, one, other = contents[kind]
    keep(run, kind, one, "a")
    state = KINDS[kind][1].fingerprint_inputs
    before = state(name="a.safetensors")
    keep(run, kind, one, "a", overwrite=True)
    assert state(name="a.safetensors", model=None, references=()) == before
    keep(run, kind, other, "a", overwrite=True)
    assert state(name="a.safetensors") != before


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_kind_is_named_with_its_place(run, contents, folders, kind):
    for other in set(KINDS) - {kind}:
        keep(run, other, contents[other][1], "a")
        folders[kind].mkdir(exist_ok=True)
        (folders[other] / "a.safetensors").rename(folders[kind] / "theirs.safetensors")
        with pytest.raises(CheckpointError, match=f"belongs in models/any2pix/{other}"):
            run(KINDS[kind][1], name="theirs.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_or_foreign_file_is_one_clear_error(run, contents, folders, kind):
    keep(run, kind, contents[kind][1], "a")
    whole = (folders[kind] / "a.safetensors").read_bytes()
    header = (10**18).to_bytes(8, "little")
    for broken in (
        b"",
        whole[:5],
        whole[:100],
        whole[:-1],
        header + whole[8:],
        b"\xff" * 64,
        b"<html>",
        whole + b"more",
    ):
        (folders[kind] / "a.safetensors").write_bytes(broken)
        with pytest.raises(CheckpointError, match="a.safetensors"):
            run(KINDS[kind][1], name="a.safetensors")
    save_file({"any_weight": torch.zeros(3)}, folders[kind] / "a.safetensors")
    with pytest.raises(CheckpointError, match="it holds 'any_weight'"):
        run(KINDS[kind][1], name="a.safetensors")


def test_sizes_are_known_before_anything_is_read(run, contents, folders, monkeypatch):
    keep(run, "references", contents["references"][1], "a")
    monkeypatch.setattr(saved_files, "MOST_BYTES", 1000)
    monkeypatch.setattr(saved_files.WeightFile, "tensor", lambda *_: pytest.fail("it was read"))
    with pytest.raises(CheckpointError, match="more than a reference library may have"):
        run(LoadReferences, name="a.safetensors")


DAMAGES = {
    "references": [
        lambda r: r["references"].pop(),
        lambda r: r.update(references=[]),
        lambda r: r.update(references="none"),
        lambda r: r["references"].__setitem__(0, {"modality": "image"}),
        lambda r: r["references"][0].update(modality="film"),
        lambda r: r["references"][0].update(label=7),
        lambda r: r["references"].append(dict(r["references"][0])),
        lambda r: r.update(format=2),
        lambda r: r.update(format="new"),
        lambda r: r.update(kind="embedding"),
    ],
    "embedding": [
        lambda r: r.update(dims=63),
        lambda r: r.update(candidates=None),
        lambda r: r.update(candidates=[-1]),
        lambda r: r.update(candidates=["0"]),
        lambda r: r.pop("kind"),
    ],
    "inversion": [
        lambda r: r.pop("steps"),
        lambda r: r.update(steps="4"),
        lambda r: r.update(steps=10**9),
        lambda r: r.update(scheduler=None),
        lambda r: r.update(settings=[1]),
        lambda r: r.update(settings={"cfg": "1"}),
        lambda r: r.update(model={"family": "SDXL"}),
        lambda r: r.update(latent_format=None),
        lambda r: r.update(latent_format={"name": "os", "scale_factor": 1.0}),
        lambda r: r.update(latent_format={"name": "LatentFormat", "scale_factor": "1"}),
        lambda r: r.update(latent_format={"name": "SD3", "scale_factor": 1.0}),
        lambda r: r.update(extras={"samples": 1}),
        lambda r: r.update(extras={"batch_index": {"a": 1}}),
    ],
}


@pytest.mark.parametrize(
    "kind, place", [(kind, place) for kind, damages in DAMAGES.items() for place in range(len(damages))]
)
def test_a_damaged_record_is_one_clear_error(run, contents, folders, kind, place):
    keep(run, kind, contents[kind][1], "a")
    rewrite(folders[kind] / "a.safetensors", DAMAGES[kind][place])
    with pytest.raises(CheckpointError, match="a.safetensors"):
        run(KINDS[kind][1], name="a.safetensors")


@pytest.mark.parametrize(
    "kind, key, value",
    [
        ("references", "any2pix_reference.0.image", torch.zeros(4, 4)),
        ("references", "any2pix_reference.0.embedding", torch.zeros(2, 64)),
        ("references", "any2pix_reference.0.embedding", torch.zeros(63)),
        ("references", "any2pix_reference.0.embedding", torch.full((64,), torch.nan)),
        ("embedding", "any2pix_embedding", torch.zeros(64, dtype=torch.int64)),
        ("inversion", "any2pix_inversion.clean", torch.zeros(1, 4, 2, 2)),
        ("inversion", "any2pix_inversion.sigmas", torch.tensor([1.0, 2.0, 0.0])),
        ("inversion", "any2pix_inversion.sigmas", torch.tensor([3.0, 1.0])),
        ("inversion", "any2pix_inversion.sigmas", torch.zeros(2, 2)),
    ],
)
def test_tensors_that_do_not_fit_are_one_clear_error(run, contents, folders, kind, key, value):
    keep(run, kind, contents[kind][1], "a")
    rewrite(folders[kind] / "a.safetensors", tensors=lambda tensors: tensors.update({key: value}))
    with pytest.raises(CheckpointError, match="a.safetensors"):
        run(KINDS[kind][1], name="a.safetensors")


def test_references_of_two_imagebinds_are_named(run, references):
    wide = (Reference(torch.ones(1024), "audio"),)
    with pytest.raises(ValueError, match="embeddings of 64 and of 1024 numbers"):
        keep(run, "references", (*references, *wide), "mixed")
    keep(run, "references", wide, "published")
    with pytest.raises(
        ValueError, match="published.safetensors and those before them have embeddings of 64 and of 1024"
    ):
        run(LoadReferences, name="published.safetensors", references=references)


def test_nothing_and_nan_are_not_saved(run, folders):
    with pytest.raises(ValueError, match="Connect some"):
        keep(run, "references", (), "a")
    broken = torch.ones(64).index_fill(0, torch.tensor([3]), torch.nan)
    with pytest.raises(ValueError, match="1 values that are NaN"):
        keep(run, "embedding", Embedding(broken), "a")
    with pytest.raises(ValueError, match="reference 1 holds 1 values"):
        keep(run, "references", (Reference(broken, "audio"),), "a")
    assert files_in(folders["references"].parent) == []


# The graph that made it -----------------------------------------------------------------------------------------------


class Hidden:
    unique_id = "9"
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}, "_meta": {"title": "mine"}},
        "5": {"class_type": "Any2PixMixEmbeddings", "inputs": {"edit": ["1", 0], "edit_weight": 0.4}},
        "7": {"class_type": "KSampler", "inputs": {"seed": 3}},
        "9": {"class_type": "Any2PixSaveEmbedding", "inputs": {"embedding": ["5", 0], "name": "a"}},
    }


def test_the_recipe_is_the_part_of_the_graph_that_leads_here(monkeypatch):
    from comfy.cli_args import args

    recipe = recipe_of(Hidden, "embedding")
    assert recipe["node"] == "5" and set(recipe["graph"]) == {"1", "5"}
    assert recipe["graph"]["1"] == {"class_type": "LoadImage", "inputs": {"image": "a.png"}}
    assert recipe_of(None, "embedding") == recipe_of(Hidden, "references") == {}
    monkeypatch.setattr(args, "disable_metadata", True)
    assert recipe_of(Hidden, "embedding") == {}


def test_a_loaded_embedding_shows_what_made_it(run, vector, monkeypatch, folders):
    monkeypatch.setattr(SaveEmbedding, "hidden", Hidden)
    keep(run, "embedding", vector, "a")
    shown = LoadEmbedding.execute("a.safetensors").ui.as_dict()["text"][0]
    assert "MixEmbeddings: edit_weight 0.4" in shown and "64 numbers, length 20" in shown
    rewrite(folders["embedding"] / "a.safetensors", lambda record: record.update(recipe=["not one"]))
    assert "64 numbers" in LoadEmbedding.execute("a.safetensors").ui.as_dict()["text"][0]


# Pick Reference -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mark, index",
    [("image1", 0), ("[image2]", 1), (" [ Audio 1 ] ", 2), ("text", 3), ("（image1）", 0), ("IMAGE02", 1)],
)
def test_a_mark_picks_its_reference(run, references, mark, index):
    embedding, image = run(PickReference, references=references, mark=mark)
    expected = references[index]
    assert float(embedding.vector.norm()) == pytest.approx(20)
    assert torch.cosine_similarity(embedding.vector, expected.embedding, dim=0) == pytest.approx(1, abs=1e-6)
    if expected.image is None:
        assert image.shape == (1, 40, 48, 3) and float(image.std()) == 0, "grey, as large as the first picture"
    else:
        assert torch.equal(image[0], expected.image)


@pytest.mark.parametrize("mark", ["", "image3", "image0", "cat", "image1 image2", "audio-1", "image1]["])
def test_another_mark_is_named_with_those_that_are_connected(run, references, mark):
    if mark == "image1][":
        run(PickReference, references=references, mark=mark)  # brackets are only decoration
        return
    with pytest.raises(ValueError, match=r"Connected: \[image1\], \[image2\], \[audio1\], \[text1\]\."):
        run(PickReference, references=references, mark=mark)


def test_a_pick_from_nothing_is_named(run):
    with pytest.raises(ValueError, match="No reference is connected"):
        run(PickReference, references=(), mark="image1")


def test_the_pick_is_shown_with_an_arrow(references):
    shown = PickReference.execute(references, "audio1").ui.as_dict()["text"][0]
    assert [line.startswith("→") for line in shown.splitlines()] == [False, False, True, False]


def test_the_writer_is_whole_or_not_at_all(tmp_path):
    """A stop in the middle of writing leaves nothing behind."""
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr(saved_files.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        write_saved(tmp_path, "a", "embedding", {"any2pix_embedding": torch.ones(3)}, {}, overwrite=True)
    assert files_in(tmp_path) == []
