"""What a classifier finds in the result, compared with the labels of the case.

The largest logit alone is not enough: a smear in the right colours has one too. So the probability of the right label
is measured as well, and none of these figures stands for the picture without those of `fidelity`.
"""

from __future__ import annotations

from functools import lru_cache

from ..case import Case, Output
from ..judge import probabilities
from . import Tools, metric

SUBJECT = "subject"  # the attribute that a picture is about
NOTHING = "none"  # its label where there is no subject


@metric("done", unit="share")
def done(case: Case, output: Output, tools: Tools) -> float | None:
    """1 where every attribute that the edit should change has the wanted label."""
    found = found_labels(case, output, tools)
    changed = [name for name, (before, after) in case.labels.items() if before != after]
    if found is None or not changed:
        return None
    return float(all(found[name] == case.labels[name][1] for name in changed))


@metric("kept", unit="share")
def kept(case: Case, output: Output, tools: Tools) -> float | None:
    """Share of the attributes the edit should leave that have their label still."""
    found = found_labels(case, output, tools)
    others = [name for name, (before, after) in case.labels.items() if before == after]
    if found is None or not others:
        return None
    return sum(found[name] == case.labels[name][1] for name in others) / len(others)


@metric("all_right", unit="share")
def all_right(case: Case, output: Output, tools: Tools) -> float | None:
    """1 where every attribute has the label of the target."""
    found = found_labels(case, output, tools)
    return None if found is None else float(all(found[name] == after for name, (_, after) in case.labels.items()))


@metric("subject_confidence")
def subject_confidence(case: Case, output: Output, tools: Tools) -> float | None:
    """The probability of the wanted subject, for a target that has one: how recognisable it is."""
    if case.labels.get(SUBJECT, ("", NOTHING))[1] == NOTHING:
        return None
    right = right_probabilities(case, output, tools)
    return right and right[SUBJECT]


@metric("confidence")
def confidence(case: Case, output: Output, tools: Tools) -> float | None:
    """The smallest probability that an attribute has the label of the target."""
    right = right_probabilities(case, output, tools)
    return right and min(right.values())


def found_labels(case: Case, output: Output, tools: Tools) -> dict[str, str] | None:
    """The likeliest label of each attribute; None without a judge or without labels."""
    shares = _shares(case, output, tools)
    return shares and {name: max(shares[name], key=shares[name].get) for name in case.labels}


def right_probabilities(case: Case, output: Output, tools: Tools) -> dict[str, float] | None:
    """The probability of the target's label for each attribute."""
    shares = _shares(case, output, tools)
    return shares and {name: shares[name][after] for name, (_, after) in case.labels.items()}


@lru_cache(maxsize=1)  # one result is measured by several metrics in a row
def _shares(case: Case, output: Output, tools: Tools) -> dict[str, dict[str, float]] | None:
    if tools.judge is None or not case.labels:
        return None
    return probabilities(tools.judge, output.picture[None])[0]
