"""Leads the wires of a workflow around its nodes, along points that the page calls reroutes.

The page draws wires below nodes, as one curve from point to point: what runs under a node cannot be followed. A wire
whose plain curve meets no node stays as it is. Numbers are the page's pixels at zoom 1.
"""

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

Point = tuple[float, float]
Rect = tuple[float, float, float, float]  # left, top, right, bottom

CELL = 12
CLEAR = 14  # a wire keeps this far from a node
NEAR = 8  # so near to a node a curve counts as under it: front ends differ by some pixels
PORT = 14  # this much of its own node a wire may cross: from the socket to the edge
SAMPLES = 60  # points looked at on a curve
# the page's: how far a curve's handles reach, as a share of its length; at most, at a reroute
SPLINE, MAX_SPLINE = 0.25, 20
# What a way costs a cell: along an empty one, along another wire, along a group's title. And a turn, and a crossing.
STEP, BESIDE, TITLE, TURN, CROSSING = 1.0, 4.0, 2.0, 15.0, 2.0
HOLD = 3 * CELL  # so near a corner a wire is held, where its curve would swing out
MARGIN = 12  # cells around the page
ASIDE = (CELL / 2, CELL, 2 * CELL)  # how far a point may step so that another can go
MOVES = ((1, 0), (0, 1), (-1, 0), (0, -1))


@dataclass(frozen=True)
class Wire:
    """`start`, `end`: where its sockets are; `source`, `target`: the ids of their nodes; `slot`: the output it comes
    from."""

    id: int
    source: int
    slot: int
    start: Point
    target: int
    end: Point


Chains = dict[int, list[Point]]  # the id of a wire -> the points that it is led along


def route(wires: Iterable[Wire], nodes: dict[int, Rect], titles: Iterable[Rect] = ()) -> Chains:
    """The points of every wire that needs some. `nodes`: their boxes with the titles; `titles`: what is better not
    crossed."""
    grid, chains = Grid(nodes.values(), titles), {}
    outputs: dict[tuple[int, int], list[Wire]] = {}
    for wire in wires:
        if not fits([wire], {wire.id: []}, nodes):
            outputs.setdefault((wire.source, wire.slot), []).append(wire)
    for bundle in sorted(outputs.values(), key=lambda bundle: min(span(wire) for wire in bundle)):
        for place, wire in enumerate(sorted(bundle, key=span)):
            before = sorted(bundle, key=span)[:place]
            chains[wire.id] = lead(wire, before, chains, nodes, grid)
        grid.use(bundle, chains)
    return chains


def span(wire: Wire) -> float:
    return math.dist(wire.start, wire.end)


def lead(wire: Wire, before: list[Wire], chains: Chains, nodes: dict[int, Rect], grid: "Grid") -> list[Point]:
    """The points of one wire. It may leave those of the same output (`before`) at one of their points."""
    own = {(): (wire.start[0] + PORT + CLEAR, wire.start[1])}
    shared = {
        tuple(chains[other.id][:length]): chains[other.id][length - 1]
        for other in before
        for length in range(1, len(chains[other.id]) + 1)
    }
    led = {other.id: chains[other.id] for other in before}

    def good(chain: list[Point]) -> bool:
        return fits([*before, wire], {**led, wire.id: chain}, nodes)

    for starts in ({**own, **shared}, own):
        kept, corners = grid.path(starts, (wire.end[0] - PORT - CLEAR, wire.end[1]))
        for way in (corners, held(corners)):
            chain = [*kept, *way]
            aside = moved(chain, range(len(kept), len(chain)))
            found = next((tried for tried in (chain, *aside) if good(tried)), None)
            if found:
                return simplest(found, len(kept), good)
    return chain  # a test on the page tells


def fits(bundle: list[Wire], chains: Chains, nodes: dict[int, Rect]) -> bool:
    """Whether the wires of one output meet no node."""
    return all(clear(curve, wire, nodes) for wire, curve in curves(bundle, chains))


def held(corners: list[Point]) -> list[Point]:
    """With more points on the way from corner to corner, so that the curve keeps to it."""
    points = corners[:1]
    for (x, y), (to_x, to_y) in itertools.pairwise(corners):
        length = math.dist((x, y), (to_x, to_y))
        for share in (HOLD / length, 1 - HOLD / length) if length > 2 * HOLD else ():
            points.append((x + share * (to_x - x), y + share * (to_y - y)))
        points.append((to_x, to_y))
    return points


def simplest(chain: list[Point], kept: int, good: Callable[[list[Point]], bool]) -> list[Point]:
    """Leaves out points, all but the first `kept`, as long as the chain stays good; their neighbours may step aside for
    it."""
    shorter = chain
    while shorter is not None:
        chain = shorter
        ends_first = sorted(range(kept, len(chain)), key=lambda place: min(place - kept, len(chain) - 1 - place))
        tries = (tried for place in ends_first for tried in without(chain, place, kept))
        shorter = next((tried for tried in tries if tried and good(tried)), None)
    return chain


def without(chain: list[Point], place: int, kept: int) -> Iterator[list[Point]]:
    """The chain without a point, then with one of the points beside it moved by up to two cells."""
    shorter = chain[:place] + chain[place + 1 :]
    yield shorter
    yield from moved(shorter, [beside for beside in (place, place - 1) if kept <= beside < len(shorter)])


def moved(chain: list[Point], places: Iterable[int]) -> Iterator[list[Point]]:
    """The chain with one of its points at some other place nearby."""
    for place in places:
        x, y = chain[place]
        for step in ASIDE:
            for right, down in MOVES:
                yield [*chain[:place], (x + right * step, y + down * step), *chain[place + 1 :]]


def clear(curve: list[Point], wire: Wire, nodes: dict[int, Rect]) -> bool:
    """Whether a curve of the wire meets no node; the edge of its own ones at the sockets does not count."""
    for node, (left, top, right, bottom) in nodes.items():
        right = right - PORT if node == wire.source else right + NEAR
        left = left + PORT if node == wire.target else left - NEAR
        if any(left < x < right and top - NEAR < y < bottom + NEAR for x, y in curve):
            return False
    return True


def curves(bundle: list[Wire], chains: Chains) -> Iterator[tuple[Wire, list[Point]]]:
    """Every curve that the page draws for the wires of one output, with its wire."""
    following: dict[tuple[Point, ...], list[Point]] = {}  # a chain up to a point -> where its wires go from there
    for wire in bundle:
        stops = [*chains[wire.id], wire.end]
        for place in range(1, len(stops)):
            following.setdefault(tuple(stops[:place]), []).append(stops[place])
    for wire in bundle:
        chain, at, handle = chains[wire.id], wire.start, None
        for place, stop in enumerate(chain):
            angle, reach = bend(at, stop, following[tuple(chain[: place + 1])])
            out = handle or (SPLINE * math.dist(at, stop), 0.0)
            yield wire, bezier(at, out, (-reach * math.cos(angle), -reach * math.sin(angle)), stop)
            ahead = chain[place + 1] if place + 1 < len(chain) else wire.end
            reach = min(MAX_SPLINE, SPLINE * math.dist(stop, ahead))
            at, handle = stop, (reach * math.cos(angle), reach * math.sin(angle))
        reach = SPLINE * math.dist(at, wire.end)
        yield wire, bezier(at, handle or (reach, 0.0), (-reach, 0.0), wire.end)


def bend(before: Point, stop: Point, following: list[Point]) -> tuple[float, float]:
    """The direction in which the page leads wires through a point, and how far the handle before it reaches."""
    onward = sum(math.atan2(y - stop[1], x - stop[0]) for x, y in following) / len(following)
    inward = math.atan2(stop[1] - before[1], stop[0] - before[0])
    half = (inward - onward) / 2
    if abs(half) > math.pi / 2:
        half += math.pi
    return inward - half, min(MAX_SPLINE, SPLINE * math.dist(before, stop))


def bezier(start: Point, out: Point, back: Point, end: Point) -> list[Point]:
    """Points of the curve; `out` and `back`: its handles, from start and end."""
    corners = (start, (start[0] + out[0], start[1] + out[1]), (end[0] + back[0], end[1] + back[1]), end)
    points = []
    for step in range(SAMPLES + 1):
        t = step / SAMPLES
        weights = ((1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3)
        points.append(
            tuple(sum(w * corner[axis] for w, corner in zip(weights, corners, strict=True)) for axis in (0, 1))
        )
    return points


class Grid:
    """The page in cells: where a wire may run and what it costs there."""

    def __init__(self, nodes: Iterable[Rect], titles: Iterable[Rect]):
        nodes = list(nodes)
        self.left = min(rect[0] for rect in nodes) - MARGIN * CELL
        self.top = min(rect[1] for rect in nodes) - MARGIN * CELL
        self.columns = int((max(rect[2] for rect in nodes) - self.left) / CELL) + MARGIN
        self.rows = int((max(rect[3] for rect in nodes) - self.top) / CELL) + MARGIN
        self.blocked = {cell for rect in nodes for cell in self.cells(rect, CLEAR)}
        self.titles = {cell for rect in titles for cell in self.cells(rect, 0)}
        self.used: dict[
            tuple[int, int], set[bool]
        ] = {}  # a cell -> whether wires run through it across, or up and down

    def cell(self, point: Point) -> tuple[int, int]:
        return round((point[0] - self.left) / CELL), round((point[1] - self.top) / CELL)

    def point(self, cell: tuple[int, int]) -> Point:
        return self.left + cell[0] * CELL, self.top + cell[1] * CELL

    def cells(self, rect: Rect, around: float) -> Iterator[tuple[int, int]]:
        left, top = math.ceil((rect[0] - around - self.left) / CELL), math.ceil((rect[1] - around - self.top) / CELL)
        right, bottom = int((rect[2] + around - self.left) / CELL), int((rect[3] + around - self.top) / CELL)
        return ((x, y) for x in range(left, right + 1) for y in range(top, bottom + 1))

    def path(self, starts: dict[tuple[Point, ...], Point], end: Point) -> tuple[tuple[Point, ...], list[Point]]:
        """The cheapest way from one of the starts (what leads there -> where it is) -> what leads there, corners from
        there."""
        goal = self.cell(end)
        heap = [(0.0, self.cell(point), 0, shared) for shared, point in starts.items()]
        came: dict[tuple, tuple | None] = {(cell, move, shared): None for _, cell, move, shared in heap}
        costs = dict.fromkeys(came, 0.0)
        heap = [(self.distance(cell, goal), 0.0, cell, move, shared) for _, cell, move, shared in heap]
        heapq.heapify(heap)
        while heap:
            _, cost, cell, move, shared = heapq.heappop(heap)
            state = (cell, move, shared)
            if cost > costs[state]:
                continue
            if cell == goal and move == 0:
                return shared, self.corners(came, state)
            for turned, (x, y) in enumerate(MOVES):
                there = (cell[0] + x, cell[1] + y)
                if (turned - move) % 4 == 2 or not self.free(there, goal):
                    continue
                spent = cost + self.cost(there, turned) + TURN * (turned != move)
                follower = (there, turned, shared)
                if spent < costs.get(follower, math.inf):
                    costs[follower], came[follower] = spent, state
                    heapq.heappush(heap, (spent + self.distance(there, goal), spent, there, turned, shared))
        raise ValueError(f"no wire can be led to {end}: nodes stand too close")

    @staticmethod
    def distance(one: tuple[int, int], other: tuple[int, int]) -> float:
        return STEP * (abs(one[0] - other[0]) + abs(one[1] - other[1]))

    def free(self, cell: tuple[int, int], goal: tuple[int, int]) -> bool:
        inside = 0 <= cell[0] < self.columns and 0 <= cell[1] < self.rows
        return inside and (cell not in self.blocked or cell == goal)

    def cost(self, cell: tuple[int, int], move: int) -> float:
        along = move % 2 == 1
        wires = self.used.get(cell, ())
        return STEP + BESIDE * (along in wires) + CROSSING * ((not along) in wires) + TITLE * (cell in self.titles)

    def corners(self, came: dict, state: tuple) -> list[Point]:
        states = [state]
        while (state := came[state]) is not None:
            states.append(state)
        states.reverse()
        turns = [one[0] for one, after in itertools.pairwise(states) if one[1] != after[1]]
        if states[0][2] and turns and turns[0] == states[0][0]:
            turns = turns[1:]  # it turns off at a point that is there
        return [self.point(cell) for cell in turns]

    def use(self, bundle: list[Wire], chains: Chains) -> None:
        """Keeps others from running along these wires."""
        for wire in bundle:
            stops = [wire.start, *chains[wire.id], wire.end]
            for (from_x, from_y), (to_x, to_y) in itertools.pairwise(map(self.cell, stops)):
                if from_y == to_y:
                    for x in range(min(from_x, to_x), max(from_x, to_x) + 1):
                        self.used.setdefault((x, from_y), set()).add(False)
                elif abs(to_x - from_x) <= abs(to_y - from_y):
                    for y in range(min(from_y, to_y), max(from_y, to_y) + 1):
                        self.used.setdefault((to_x, y), set()).add(True)


def as_saved(wires: Iterable[Wire], chains: Chains) -> dict[str, list[dict]]:
    """The points as the page saves them in a workflow's `extra`: wires of one output share those they have in
    common."""
    reroutes: list[dict] = []
    known: dict[tuple, dict] = {}
    extensions = []
    for wire in wires:
        parent, chain = None, chains.get(wire.id, [])
        for place in range(1, len(chain) + 1):
            key = (wire.source, wire.slot, *chain[:place])
            if key not in known:
                known[key] = {"id": len(reroutes) + 1, **({"parentId": parent} if parent else {})}
                known[key] |= {"pos": [round(value) for value in chain[place - 1]], "linkIds": []}
                reroutes.append(known[key])
            known[key]["linkIds"].append(wire.id)
            parent = known[key]["id"]
        if chain:
            extensions.append({"id": wire.id, "parentId": parent})
    return {"reroutes": reroutes, "linkExtensions": extensions} if reroutes else {}
