"""How a pipeline runs its steps: in batches, and each through a hook, which may time it, stop it, or give another
result."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

Hook = Callable[[str, Callable[[], Any]], Any]  # (name of the step, the step) -> the step's result
AT_ONCE = 16  # pictures a pass of the UNet and the VAE


def run_step(name: str, step: Callable[[], Any]) -> Any:
    """The hook that only runs the step."""
    return step()


def chunks_alike(places: Sequence[int], alike: Callable[[int], Hashable]) -> list[list[int]]:
    """Places for which ``alike`` gives the same, together, at most AT_ONCE in a chunk."""
    groups: dict[Hashable, list[int]] = {}
    for place in places:
        groups.setdefault(alike(place), []).append(place)
    return [group[start : start + AT_ONCE] for group in groups.values() for start in range(0, len(group), AT_ONCE)]
