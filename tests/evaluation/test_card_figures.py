"""The measurements behind the card: one of each form on the bundled networks, in as few steps as will do."""

import pytest
from any2pix.evaluation import card_figures
from any2pix.evaluation.card_figures import RUNS, TRADEOFF, Measurement, main
from any2pix.evaluation.equal import KEPT, comparisons_of
from any2pix.evaluation.report import with_columns
from any2pix.evaluation.results import read_rows
from PIL import Image

FEW = ("--options", "any2pix.steps=2", "any2pix.iterations=1", "pix2pix.steps=6", "sdedit.steps=6")


def test_where_both_edit_equally_well_the_bundled_network_keeps_more_of_each_place(tmp_path, monkeypatch):
    """Five validation edits: by its lines and patches InstructPix2Pix leaves more of the source where it was than
    SDEdit does. Of the picture's embedding, which hardly tells places, it loses no more."""
    few = (
        "--methods", "pix2pix", "sdedit", "--where", "given_as=text", *FEW, "pix2pix.text_guidance=1.5",
        "--sweep", "pix2pix.image_guidance=1,3,5", "sdedit.strength=0.5,0.8,1", "--metrics", "direction", *KEPT,
    )  # fmt: skip
    monkeypatch.setitem(RUNS, TRADEOFF, Measurement(few, KEPT, over="direction"))
    main(["--only", TRADEOFF, "--samples", "1", "--out", str(tmp_path)])
    frame = with_columns(read_rows([tmp_path / "tradeoff.parquet"]))
    found = {what: compared for _, _, what, compared in comparisons_of(frame, "direction")}
    assert len(found["structure"].levels), "both reach some directional similarity"
    assert found["structure"].differences[-1] > 0.1 and found["patch_similarity"].differences[-1] > 0.02
    assert found["image_similarity"].differences[-1] > -0.05
    assert Image.open(tmp_path / "tradeoff.png").width > 1000


def test_a_knob_is_measured_on_validation_whatever_the_report_is(tmp_path, monkeypatch):
    few = ("--methods", "any2pix", "--kinds", "add", "--where", "given_as=text", *FEW, "--metrics", "structure")
    sweep = ("--sweep", "any2pix.alpha=0,1")
    monkeypatch.setitem(RUNS, "alpha", Measurement((*few, *sweep), ("structure",), knob=True))
    main(["--only", "alpha", "--samples", "1", "--split", "seen", "--out", str(tmp_path)])
    frame = read_rows([tmp_path / "alpha.parquet"])
    assert set(frame["split"]) == {"validation"} and list(frame["setting"]) == ["alpha=0", "alpha=1"]
    assert (tmp_path / "alpha.png").is_file()


def test_every_measurement_asks_for_what_there_is(monkeypatch):
    """Their options, metrics and methods are known to `run`."""
    for measurement in RUNS.values():
        given = card_figures.run._arguments().parse_args(measurement.command("seen", 2))
        assert given.samples == 2 and given.split == ("validation" if measurement.knob else "seen")
        for pair in given.sweep:
            method, _, option = pair.partition("=")[0].partition(".")
            assert hasattr(card_figures.run.DEFAULTS[method], option), pair


def test_the_final_seeds_are_drawn_by_no_slip(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--split", "final", "--out", str(tmp_path)])
    assert "--final-report go together" in capsys.readouterr().err
