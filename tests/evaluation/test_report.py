"""Intervals, long rows and the report, on numbers whose answer is known."""

import json
from dataclasses import replace

import numpy as np
import pytest
from any2pix.evaluation.equal import at_equal, comparisons_of, equal_table
from any2pix.evaluation.intervals import estimate
from any2pix.evaluation.report import _arguments as arguments
from any2pix.evaluation.report import against, chosen_rows, estimates_of, only_shared, with_columns
from any2pix.evaluation.report import main as report
from any2pix.evaluation.results import COLUMNS, Row, read_rows, write_rows

ROW = Row(
    data="toyland", split="validation", case="add/0/text", scene="add/0", kind="add", given_as="text", method="A",
    setting="", metric="psnr", value=20.0, unit="dB", embedder="imagebind", seed=1, weights="w", code="c", options="o",
)  # fmt: skip


def row(value, method="A", scene=0, way="text", metric="psnr", **more) -> Row:
    return replace(
        ROW, value=value, method=method, scene=f"add/{scene}", case=f"add/{scene}/{way}", given_as=way, metric=metric,
        **more,
    )  # fmt: skip


def frame_of(tmp_path, rows):
    write_rows(tmp_path / "rows.jsonl", rows)
    return with_columns(read_rows([tmp_path / "rows.jsonl"]))


def test_one_edit_given_in_three_ways_is_not_three_edits():
    """Three equal values of each scene narrow nothing: the interval is that of the scenes."""
    values = np.random.default_rng(0).normal(20, 2, 40)
    scenes = [f"s{i}" for i in range(40)]
    once, thrice = estimate(values, scenes), estimate(np.repeat(values, 3), np.repeat(scenes, 3))
    assert thrice.mean == pytest.approx(once.mean)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    assert (thrice.cases, thrice.scenes) == (120, 40)
    alone = estimate(np.repeat(values, 3), np.arange(120).astype(str))
    assert alone.high - alone.low < 0.7 * (thrice.high - thrice.low)


def test_the_interval_of_a_mean_is_two_standard_errors_wide():
    values = np.random.default_rng(1).normal(0, 1, 400)
    found = estimate(values, np.arange(400).astype(str))
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_where_all_agree_the_interval_is_wilsons():
    """Wilson 1927 for 10 of 10: [0.722, 1]; the trials are the scenes."""
    found = estimate([1.0] * 30, np.repeat(np.arange(10).astype(str), 3), share=True)
    assert (found.low, found.high) == pytest.approx((0.7225, 1.0), abs=1e-3)
    none = estimate([0.0] * 10, np.arange(10).astype(str), share=True)
    assert (none.low, none.high) == pytest.approx((0.0, 0.2775), abs=1e-3)
    similarity = estimate([1.0] * 10, np.arange(10).astype(str))
    assert similarity.low == similarity.high == 1.0, "no share"


def test_one_scene_says_nothing_of_the_others():
    found = estimate([1.0, 3.0], ["a", "a"])
    assert found.mean == 2.0 and np.isnan(found.low) and found.to_dict()["low"] is None
    with pytest.raises(ValueError, match="0 values of 0 cases"):
        estimate([], [])


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_rows_come_back_as_they_were_written(tmp_path, ending):
    rows = [row(20.0), row(0.5, scene=1, metric="done", unit="share", setting="cfg=3")]
    write_rows(tmp_path / f"rows{ending}", rows)
    frame = read_rows([tmp_path / f"rows{ending}"])
    assert tuple(frame.columns) == COLUMNS
    assert [Row(**record) for record in frame.to_dict("records")] == rows


def test_what_is_no_result_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"written as .parquet or .jsonl"):
        write_rows(tmp_path / "rows.csv", [ROW])
    with pytest.raises(ValueError, match="is not a results file"):
        read_rows([tmp_path / "none.jsonl"])
    (tmp_path / "other.jsonl").write_text('{"case": "a"}\n')
    with pytest.raises(ValueError, match="lacks the column 'data'"):
        read_rows([tmp_path / "other.jsonl"])
    write_rows(tmp_path / "rows.jsonl", [ROW])
    with pytest.raises(ValueError, match="appears twice"):
        read_rows([tmp_path / "rows.jsonl"] * 2)


def test_groups_and_columns(tmp_path):
    rows = [row(20.0 + scene, kind=("add", "style")[scene % 2], scene=scene) for scene in range(4)]
    rows += [row(10.0, method="B", setting="cfg=3", scene=scene) for scene in range(4)]
    frame = frame_of(tmp_path, rows)
    assert estimates_of(frame, None)["psnr", "all"]["A"].mean == 21.5
    by_kind = estimates_of(frame, "kind")
    assert by_kind["psnr", "add"]["A"].mean == 21.0 and by_kind["psnr", "style"]["A"].mean == 22.0
    assert by_kind["psnr", "add"]["B cfg=3"].scenes == 4 and "B cfg=3" not in by_kind["psnr", "style"]


def test_the_same_number_in_two_data_sets_is_not_one_scene(tmp_path):
    frame = frame_of(tmp_path, [row(1.0), row(2.0, data="folder:x")])
    assert estimates_of(frame, None)["psnr", "all"]["A"].scenes == 2


def test_only_what_all_methods_did_is_compared(tmp_path):
    rows = [row(20.0, scene=0), row(99.0, scene=0, way="audio"), row(10.0, method="B", scene=0)]
    frame = frame_of(tmp_path, rows)
    assert estimates_of(only_shared(frame), None)["psnr", "all"]["A"].mean == 20.0
    (pair,) = against(frame, "B").to_dict("records")
    assert pair["value"] == 10.0 and pair["column"] == "A - B"
    with pytest.raises(ValueError, match="no method 'C' here. Choose from: A, B"):
        against(frame, "C")


def test_the_error_of_a_difference_is_that_of_the_pairs(tmp_path):
    """What is hard for both widens neither: a difference of exactly 1 everywhere."""
    hard = np.random.default_rng(2).normal(20, 5, 20)
    rows = [row(v, scene=i) for i, v in enumerate(hard)] + [row(v - 1, "B", i) for i, v in enumerate(hard)]
    (found,) = estimates_of(against(frame_of(tmp_path, rows), "B"), None)["psnr", "all"].values()
    assert (found.mean, found.low, found.high) == pytest.approx((1.0, 1.0, 1.0))


def test_the_command_writes_tables(tmp_path, caplog):
    rows = [row(20.0 + scene, scene=scene, way=way) for scene in range(3) for way in ("text", "audio")]
    rows += [row(1.0, scene=scene, metric="done", unit="share") for scene in range(3)]
    write_rows(tmp_path / "a.parquet", rows)
    write_rows(tmp_path / "b.jsonl", [row(10.0, method="B", scene=scene, weights="other") for scene in range(3)])
    files = [str(tmp_path / name) for name in ("a.parquet", "b.jsonl")]
    told = ["--out", str(tmp_path / "t.md"), "--json", str(tmp_path / "t.json")]
    report([*files, "--where", "given_as=text", "--against", "B", *told])
    table = (tmp_path / "t.md").read_text()
    assert "| psnr | 21.0 [" in table and "dB (n 3, 3 scenes)" in table and "| 10.0 [10.0, 10.0] dB" in table
    assert "| done | 100.0 [43.9, 100.0] % (n 3, 3 scenes) |  |" in table and "A - B" in table
    assert "2 different weights" in caplog.text
    records = json.loads((tmp_path / "t.json").read_text())
    assert {record["method"] for record in records} == {"A", "B", "A - B"}
    with pytest.raises(ValueError, match="No rows are left"):
        report([*files, "--where", "kind=remove"])
    with pytest.raises(ValueError, match="'colour=red' is not a condition"):
        chosen_rows(arguments().parse_args([*files, "--where", "colour=red"]))


def curve_rows(method, level, kept, scenes=60, spread=0.0, seed=0):
    noise = np.random.default_rng(seed).normal(0, spread, scenes)
    noise -= noise.mean()
    for place, (x, y) in enumerate(zip(level, kept, strict=True)):
        for scene in range(scenes):
            for name, value in (("direction", x), ("image_similarity", y + noise[scene])):
                yield row(value, method, scene, metric=name, setting=f"knob={place}", unit="")


def test_methods_are_compared_where_they_edit_equally_well(tmp_path):
    """One keeps 0.1 more at every direction; its scenes are spread by 0.3."""
    rows = [*curve_rows("A", (0, 1), (0.9, 0.6), spread=0.3), *curve_rows("B", (0, 0.5, 1), (0.8, 0.65, 0.5))]
    ((one, other, what, found),) = comparisons_of(frame_of(tmp_path, rows), "direction")
    assert (one, other, what) == ("A", "B", "image_similarity")
    assert found.levels == pytest.approx((0.1, 0.3, 0.5, 0.7, 0.9))
    assert found.differences == pytest.approx([0.1] * 6)
    assert found.errors == pytest.approx([0.3 / np.sqrt(60)] * 6, rel=0.15)
    assert all(low < 0.1 < high for low, high in found.intervals)
    assert "| A | B | image_similarity | mean | 0.750 | 0.650 | +0.100 [" in equal_table([(one, other, what, found)])


def test_scenes_are_drawn_for_the_comparison_and_not_their_cases(tmp_path):
    once = [*curve_rows("A", (0, 1), (0.9, 0.6), spread=0.3), *curve_rows("B", (0, 1), (0.8, 0.5))]
    again = [replace(r, case=r.case.replace("text", "audio"), given_as="audio") for r in once]
    ((*_, few),) = comparisons_of(frame_of(tmp_path, once), "direction")
    ((*_, many),) = comparisons_of(frame_of(tmp_path, once + again), "direction")
    assert many.errors == pytest.approx(few.errors)


def test_curves_without_a_common_level_are_told_apart():
    apart = at_equal((np.array([[0.0], [1.0]]),) * 2, (np.array([[2.0], [3.0]]),) * 2)
    assert not len(apart.levels) and "no level is reached by both" in equal_table([("A", "B", "psnr", apart)])


def test_one_setting_is_no_curve(tmp_path):
    with pytest.raises(ValueError, match="no method has several settings.*--sweep"):
        comparisons_of(frame_of(tmp_path, [row(1.0), row(1.0, "B")]), "psnr")
