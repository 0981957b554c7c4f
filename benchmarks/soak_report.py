"""Results of a soak: counts, faults and the server's memory."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass

from .soak_plan import Edit, Job

GROWTH_LIMIT = 2.0  # per cent
WARM_UP = 0.2  # share of the edits that come before the first window
WINDOW = 0.2  # share of the edits in each of the two windows that are compared
PAGE = """# Many edits, several clients, interrupts

`{command}`

{machine}. {edits} edits of `edit_with_sound` on the miniature by {clients} clients, {steps} steps, all queued at once on
one server; {distinct} distinct edits, each compared with its picture from a run alone on another server, bit for bit.
{seconds:.0f} s.

| | |
|---|---|
| ended well, the right picture | {right} |
| interrupted | {interrupted} (clients sent {interrupts} interrupts) |
| lost, failed, swapped or wrong | {wrong} |
| unfinished files left | {unfinished} |
| resident memory, median of edits {first[0]} to {first[1]} | {before:.1f} MB |
| resident memory, median of edits {last[0]} to {last[1]} | {after:.1f} MB |
| growth | {growth:+.2f} % |
{faults}"""


@dataclass(frozen=True)
class Ended:
    """How one job ended.

    outcome: success, error, interrupted, or forgotten: not in the server's history. moment: seconds since the epoch.
    memory: the server's resident memory then, MB. name, digest: of the picture, where there is one.
    """

    job: Job
    outcome: str
    moment: float
    memory: float
    name: str | None
    digest: str | None


def fault_of(ended: Ended, expected: dict[Edit, str], sent: int) -> str | None:
    """What is wrong with how a job ended; None where nothing is. `sent`: interrupts of all clients."""
    job = ended.job
    if ended.outcome in ("error", "forgotten"):
        return f"{job.prefix} ended as {ended.outcome}"
    if ended.outcome == "interrupted":
        return None if sent else f"{job.prefix} was interrupted, but no client asked for it"
    if not ended.name.startswith(job.prefix):
        return f"{job.prefix} got the file {ended.name} of another job"
    if ended.digest != expected[job.edit]:
        others = [edit for edit, digest in expected.items() if digest == ended.digest]
        return f"{job.prefix} has the picture of {others[0]}" if others else f"{job.prefix} has a picture of no edit"
    return None


def windows(edits: int) -> tuple[slice, slice]:
    """The edits whose memory is compared: the first ones after the warm-up, and the last ones."""
    warm, size = int(WARM_UP * edits), max(1, int(WINDOW * edits))
    return slice(warm, warm + size), slice(edits - size, edits)


def summarise(ended: list[Ended], expected: dict[Edit, str], queued: int) -> dict:
    """Counts and faults.

    ended: in their order. expected: digest of each edit's picture. queued: how many jobs there were.
    """
    sent = sum(one.job.interrupt is not None for one in ended)
    outcomes = Counter(one.outcome for one in ended)
    verdicts = [fault_of(one, expected, sent) for one in ended]
    right = sum(one.outcome == "success" and not fault for one, fault in zip(ended, verdicts, strict=True))
    faults = list(filter(None, verdicts))
    if queued != len(ended):
        faults.append(f"{queued - len(ended)} prompts never ended")
    if outcomes["interrupted"] > sent:
        faults.append(f"{outcomes['interrupted']} prompts were interrupted by {sent} interrupts")
    if len(set(expected.values())) < len(expected):
        faults.append("two distinct edits give the same picture, so a swap of them would not show")
    memory = [one.memory for one in ended]
    first, last = windows(len(ended))
    before, after = statistics.median(memory[first]), statistics.median(memory[last])
    return {
        "edits": queued,
        "distinct": len(expected),
        "right": right,
        "interrupted": outcomes["interrupted"],
        "interrupts": sent,
        "faults": faults,
        "windows": [[first.start + 1, first.stop], [last.start + 1, last.stop]],
        "before": round(before, 1),
        "after": round(after, 1),
        "growth": round(100 * (after - before) / before, 2),
    }


def page(figures: dict, command: str) -> str:
    """The figures in markdown."""
    first, last = figures["windows"]
    faults = "".join(f"\n- {fault}" for fault in figures["faults"])
    unfinished, wrong = len(figures["unfinished files"]), len(figures["faults"])
    told = {name: value for name, value in figures.items() if name not in ("faults", "unfinished files", "windows")}
    return PAGE.format(
        **told, command=command, first=first, last=last, unfinished=unfinished, wrong=wrong, faults=faults
    )
