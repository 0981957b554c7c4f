"""Grid Values and Labelled Grid: all combinations row by row, cells untouched, labels beside them, one error for bad
input."""

import pytest
import torch
from any2pix.nodes import GridValues, LabelledGrid
from any2pix.nodes.grid import MAX_CELLS, SMALLEST_LETTERS, number_label
from comfy_execution.graph_utils import ExecutionBlocker
from harness.unet_eps import seeded
from PIL import ImageFont
from torch.testing import assert_close

pytestmark = pytest.mark.one_host

WIDGETS = {"x_name": "text_guidance", "x_values": "3, 7.5,12", "y_name": "image_guidance", "y_values": " 1 ，2 "}


@pytest.fixture
def values(run):
    """Grid Values with some widgets changed -> x, y, axes, x_int, y_int."""
    return lambda **changes: run(GridValues, **{**WIDGETS, **changes})


@pytest.fixture
def grid(run):
    """Labelled Grid as ComfyUI calls it, with lists -> (B, H, W, 3)."""
    return lambda images, axes: run(LabelledGrid, images=images, axes=[axes])[0]


def pictures(count: int, height: int = 128, width: int = 128, batch: int = 1) -> list[torch.Tensor]:
    return [seeded(batch, height, width, 3, seed=seed).sigmoid() for seed in range(count)]


def ink(picture: torch.Tensor) -> torch.Tensor:
    """(H, W) bool: where letters stand on the white ground."""
    return picture.mean(-1) < 0.5


def found_at(picture: torch.Tensor, cell: torch.Tensor) -> tuple[int, int]:
    """Row and column of the pixel from which on the cell stands in the picture, exactly."""
    height, width = cell.shape[:2]
    for y, x in (picture == cell[0, 0]).all(-1).nonzero().tolist():
        if torch.equal(picture[y : y + height, x : x + width], cell):
            return y, x
    raise AssertionError("the cell is not in the picture, or not as it was")


def test_every_combination_row_by_row(values):
    x, y, axes, *_ = values()
    assert list(zip(x, y, strict=True)) == [(3, 1), (7.5, 1), (12, 1), (3, 2), (7.5, 2), (12, 2)]
    assert (axes.x_name, axes.y_name, axes.cells) == ("text_guidance", "image_guidance", 6)


def test_comfyui_is_told_which_sockets_carry_lists(tiny):
    assert GridValues.OUTPUT_IS_LIST == [True, True, False, True, True] and not GridValues.INPUT_IS_LIST
    assert LabelledGrid.INPUT_IS_LIST and LabelledGrid.OUTPUT_IS_LIST == [False]


@pytest.mark.parametrize(("height", "width"), [(128, 128), (64, 200), (8, 8)])
def test_the_cells_stand_in_rows_and_columns_and_are_untouched(values, grid, height, width):
    cells = pictures(6, height, width)
    (shown,) = grid(cells, values()[2])
    corners = [found_at(shown, cell[0]) for cell in cells]
    rows, columns = sorted({y for y, _ in corners}), sorted({x for _, x in corners})
    assert corners == [(y, x) for y in rows for x in columns]
    assert (len(rows), len(columns)) == (2, 3)
    assert rows[1] - rows[0] > height and columns[1] - columns[0] > width, "cells lie on each other"


@pytest.mark.parametrize("side", [64, 128, 1024])
def test_names_and_numbers_stand_beside_the_cells_and_can_be_read(values, grid, side):
    cells = [torch.ones(1, side, side, 3) for _ in range(6)]
    (shown,) = grid(cells, values()[2])
    letters = ink(shown)
    above, beside = letters[: shown.shape[0] - 2 * side], letters[:, : shown.shape[1] - 3 * side]
    assert above.any() and beside.any()
    assert not letters[-2 * side :, -3 * side :].any(), "nothing is written on the cells"
    lines = above.any(1).int().diff().eq(1).nonzero()[:2].flatten()
    assert len(lines) == 2, "the name of the columns, and their numbers"
    assert (lines[1] - lines[0]).item() >= max(SMALLEST_LETTERS, side // 14), "letters of less than that are too small"


def test_a_number_stands_at_its_own_column_and_row(values, grid):
    cells = pictures(6)
    shown = grid(cells, values()[2])[0]
    left, lower = found_at(shown, cells[1][0])[1], found_at(shown, cells[5][0])[0]
    for change, axis, start in (({"x_values": "3, 8.5, 12"}, 1, left), ({"y_values": "1, 4"}, 0, lower)):
        changed = (shown != grid(cells, values(**change)[2])[0]).any(-1).any(1 - axis).nonzero()
        assert start < changed.min() and changed.max() < start + 128, "no other number changes"


def test_a_grid_without_names_has_numbers_alone(values, grid):
    cells = [torch.ones(1, 128, 128, 3) for _ in range(6)]
    named, nameless = (grid(cells, values(**names)[2]) for names in ({}, {"x_name": " ", "y_name": ""}))
    assert nameless.shape[1] < named.shape[1] and nameless.shape[2] < named.shape[2]
    assert ink(nameless[0]).any()


def test_long_names_make_the_picture_larger_and_are_whole(values, grid):
    cells = [torch.ones(1, 32, 32, 3)]
    single = {"x_values": "1", "y_values": "1"}
    (short,) = grid(cells, values(**single, x_name="x", y_name="y")[2])
    (long,) = grid(cells, values(**single, x_name="x" * 40, y_name="y" * 40)[2])
    assert long.shape[0] > short.shape[0] and long.shape[1] > short.shape[1]
    edges = torch.cat([ink(long)[0], ink(long)[-1], ink(long)[:, 0], ink(long)[:, -1]])
    assert not edges.any(), "letters run out of the picture"


def test_every_picture_of_a_batch_has_its_own_grid(values, grid):
    cells = pictures(6, 40, 48, batch=2)
    both = grid(cells, values()[2])
    for number in range(2):
        alone = grid([cell[number : number + 1] for cell in cells], values()[2])
        assert_close(both[number : number + 1], alone, rtol=0, atol=0)


def test_a_fourth_channel_is_left_out(values, grid):
    cells = pictures(6, 40, 40)
    see_through = [torch.cat([cell, torch.zeros(1, 40, 40, 1)], -1) for cell in cells]
    assert_close(grid(see_through, values()[2]), grid(cells, values()[2]), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_values": "3, much"}, "x_values holds 'much', which is not a number.*3, 7.5, 12"),
        ({"x_values": "3,,4"}, "x_values holds '', which is not a number"),
        ({"y_values": ""}, "y_values holds '', which is not a number"),
        ({"y_values": "1, nan"}, "y_values holds 'nan'"),
        ({"x_values": "inf"}, "x_values holds 'inf'"),
        ({"x_values": "1e999"}, "x_values holds '1e999'"),
        ({"x_values": "1 2"}, "x_values holds '1 2'"),
        (
            {"x_values": ",".join(["1"] * MAX_CELLS)},
            f"{2 * MAX_CELLS} pictures in one run; the maximum is {MAX_CELLS}",
        ),
        ({"x_name": "文本引导"}, "x_name is '文本引导'; the labels have plain Latin letters only"),
    ],
)
def test_bad_values_are_named(values, changes, message):
    with pytest.raises(ValueError, match=message):
        values(**changes)


@pytest.mark.parametrize("count", [1, 5, 7])
def test_another_number_of_pictures_is_an_error(values, grid, count):
    with pytest.raises(ValueError, match=f"3 x 2 = 6 cells and got {count} pictures. Connect x and y"):
        grid(pictures(count, 16, 16), values()[2])


def test_pictures_of_other_sizes_are_an_error(values, grid):
    with pytest.raises(ValueError, match="Picture 6 of Labelled Grid is 24 x 16, the first one 16 x 16"):
        grid(pictures(5, 16, 16) + pictures(1, 16, 24), values()[2])
    with pytest.raises(ValueError, match="Picture 6 of Labelled Grid is 16 x 16 in a batch of 2"):
        grid(pictures(5, 16, 16) + pictures(1, 16, 16, batch=2), values()[2])


def test_a_pillow_that_is_too_old_is_named(monkeypatch, values, grid):
    def load_default():  # before 10.1 it took no size
        return None

    monkeypatch.setattr(ImageFont, "load_default", load_default)
    with pytest.raises(RuntimeError, match="The labels need Pillow 10.1 or newer"):
        grid(pictures(6), values()[2])


def test_whole_numbers_come_out_for_the_widgets_that_take_them(values):
    x, y, _, x_int, y_int = values(x_values="1, 18446744073709551615", y_values="20, 1e2, 30.0")
    assert list(zip(x_int, y_int, strict=True)) == [(x, y) for y in (20, 100, 30) for x in (1, 2**64 - 1)]
    assert all(type(number) is int for number in (*x_int, *y_int)) and all(type(number) is float for number in (*x, *y))
    assert (x[:2], y[::2]) == ([1.0, 2.0**64], [20.0, 100.0, 30.0])


def test_a_fraction_stops_what_takes_whole_numbers_and_nothing_else(values):
    x, y, _, x_int, y_int = values(x_values="3, 7.5", y_values="1, 2")
    assert x == [3.0, 7.5, 3.0, 7.5] and y_int == [1, 1, 2, 2]
    assert all(isinstance(blocked, ExecutionBlocker) for blocked in x_int) and len(x_int) == len(x)
    assert x_int[0].message == "x_values of Grid Values holds 7.5, but x_int is for integers. Connect x, or round it."


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (3, "3"),
        (7.5, "7.5"),
        (1234567, "1234567"),
        (1234567.25, "1234567.25"),
        (2**64 - 1, str(2**64 - 1)),
        (1e-7, "1e-07"),
        (-0.5, "-0.5"),
    ],
)
def test_labels_tell_neighbours_apart(value, label):
    assert number_label(value) == label


def test_seeds_that_differ_in_the_last_digit_have_different_labels(values, grid):
    cells = [torch.ones(1, 32, 32, 3)] * 2
    same, other = (
        grid(cells, values(x_values=f"1234567890, {seed}", y_values="1")[2]) for seed in (1234567890, 1234567891)
    )
    assert same.shape == other.shape and not torch.equal(same, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_name": None}, "x_name of Grid Values is None"),
        ({"x_values": None}, "x_values of Grid Values is None"),
        ({"y_values": 5}, "y_values of Grid Values is 5, not a text"),
        ({"x_name": "x" * 10**6}, "x_name has 1000000 letters; the maximum is 200"),
        ({"y_name": "a\0b"}, "y_name is .*plain Latin letters only"),
        ({"x_values": "1" * 10**6}, "x_values holds '111"),
        ({"x_values": "1e31"}, "x_values holds '1e31'; the largest number is 1e"),
        ({"x_values": "1," * 10**5 + "1"}, f"the maximum is {MAX_CELLS}"),
    ],
)
def test_more_bad_values_are_named(values, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        values(**changes)
    assert len(str(error.value)) < 400


def test_a_name_of_several_lines_is_drawn_in_one(values, grid):
    cells = [torch.ones(1, 32, 32, 3)]
    lines, line = (
        grid(cells, values(x_values="1", y_values="1", x_name=name)[2]) for name in ("text\n guidance", "text guidance")
    )
    assert torch.equal(lines, line)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (None, "cell 2 of 6 of Labelled Grid is None"),
        (torch.zeros(0, 16, 16, 3), "cell 2 of 6 of Labelled Grid is empty"),
        (torch.full((1, 16, 16, 3), float("nan")), "picture in the cell 2 of 6 of Labelled Grid holds 768 values"),
        (
            [torch.zeros(1, 16, 16, 3), torch.zeros(1, 16, 18, 3)],
            "Cell 2 of 6 of Labelled Grid has pictures of 16 x 16 and 18 x 16",
        ),
        ("cat", "cell 2 of 6 of Labelled Grid is 'cat'"),
    ],
)
def test_a_broken_cell_has_its_number(values, grid, broken, message):
    cells = pictures(6, 16, 16)
    cells[1] = broken
    with pytest.raises(ValueError, match=message):
        grid(cells, values()[2])


def test_cells_of_other_types_and_channels_stand_beside_each_other(values, grid):
    cells = pictures(6, 16, 16)
    expected = grid(cells, values()[2])
    cells[1] = torch.cat([cells[1], torch.rand(1, 16, 16, 1)], -1)
    cells[2] = cells[2].double()
    cells[3] = cells[3][0]
    assert_close(grid(cells, values()[2]), expected, rtol=0, atol=0)
    assert grid([cell.half() for cell in cells], values()[2]).dtype == torch.float32


@pytest.mark.parametrize("axes", [[], [None], [3]])
def test_axes_that_are_none_are_named(run, axes):
    with pytest.raises(ValueError, match="axes input of Labelled Grid is"):
        run(LabelledGrid, images=pictures(1, 16, 16), axes=axes)
