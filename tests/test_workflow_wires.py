"""Wires of the example graphs are led around nodes, and no farther than they have to."""

import math

import pytest
from workflow_wires import Wire, as_saved, curves, fits, route

LEFT, RIGHT = (0.0, 0.0, 200.0, 100.0), (800.0, 0.0, 1000.0, 100.0)
BETWEEN = (400.0, -100.0, 600.0, 200.0)


def wire(number: int, end: tuple[float, float], target: int = 2, slot: int = 0) -> Wire:
    return Wire(number, 1, slot, (191.0, 50.0 + 20 * slot), target, end)


def test_a_wire_with_a_free_way_stays_as_it_is():
    assert route([wire(1, (810.0, 50.0))], {1: LEFT, 2: RIGHT}) == {}


def test_a_wire_is_led_around_what_stands_between():
    nodes, led = {1: LEFT, 2: RIGHT, 3: BETWEEN}, wire(1, (810.0, 50.0))
    assert not fits([led], {1: []}, nodes)
    chains = route([led], nodes)
    assert 1 <= len(chains[1]) <= 2
    assert fits([led], chains, nodes)


def test_a_wire_back_to_the_left_runs_under_neither_of_its_nodes():
    below = (0.0, 150.0, 200.0, 250.0)
    nodes, back = {1: LEFT, 2: below}, wire(1, (10.0, 200.0))
    chains = route([back], nodes)
    assert chains[1] and fits([back], chains, nodes)


def test_wires_of_one_output_share_their_points_and_others_do_not():
    second = (800.0, 150.0, 1000.0, 250.0)
    nodes = {1: LEFT, 2: RIGHT, 3: BETWEEN, 4: second}
    wires = [wire(1, (810.0, 50.0)), wire(2, (810.0, 200.0), target=4), wire(3, (810.0, 70.0), slot=1)]
    chains = route(wires, nodes)
    assert chains[1][0] == chains[2][0]
    saved = as_saved(wires, chains)
    assert saved["reroutes"][0]["linkIds"] == [1, 2]
    for point in saved["reroutes"]:
        assert not {1, 3} <= set(point["linkIds"])
    assert {end["id"] for end in saved["linkExtensions"]} == {1, 2, 3}


def test_no_way_is_an_error_that_says_so():
    walls = {3: (210.0, -5000.0, 230.0, 5000.0), 4: (-30.0, -5000.0, -10.0, 5000.0)}
    with pytest.raises(ValueError, match="too close"):
        route([wire(1, (810.0, 50.0))], {1: LEFT, 2: RIGHT, **walls})


def test_a_curve_is_the_one_of_the_page():
    """Two handles of a quarter of the length, straight out of the one socket and into the other."""
    ((_, points),) = curves([wire(1, (591.0, 350.0))], {1: []})
    reach = math.dist((191.0, 50.0), (591.0, 350.0)) / 4
    x = (191 + 3 * (191 + reach) + 3 * (591 - reach) + 591) / 8
    assert points[len(points) // 2] == pytest.approx((x, 200.0))
