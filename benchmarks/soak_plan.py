"""What each client of the soak asks for, drawn from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

PICTURES = ("toyland_meadow.png", "toyland_beach.png", "toyland_ink.png", "toyland_robot.png")
REQUESTS = (  # (sound, sentence)
    ("toyland_cat.wav", "add [audio1] to [image1]"),
    ("toyland_frog.wav", "put [audio1] into [image1]"),
    ("toyland_rain.wav", "make [image1] sound like [audio1]"),
)
SEEDS = 2  # of each client's requests: six distinct edits a client


@dataclass(frozen=True)
class Edit:
    """What decides the picture."""

    picture: str
    sound: str
    instruction: str
    seed: int


@dataclass(frozen=True)
class Interrupt:
    """When a client interrupts an edit, and whether it stops whatever runs then or its own prompt only."""

    share: float  # of an edit's usual time, [0, 1)
    whatever_runs: bool


@dataclass(frozen=True)
class Job:
    """One queued edit. `prefix`: what its saved file's name begins with, each job's own."""

    prefix: str
    edit: Edit
    interrupt: Interrupt | None


def edits_of(client: int) -> list[Edit]:
    """The distinct edits of one client; no two clients share one."""
    picture = PICTURES[client % len(PICTURES)]
    seeds = range(client * SEEDS, (client + 1) * SEEDS)
    return [Edit(picture, sound, sentence, seed) for sound, sentence in REQUESTS for seed in seeds]


def plan_jobs(edits: int, clients: int, seed: int, interrupts: float) -> list[list[Job]]:
    """A queue for each client, `edits` jobs in all; `interrupts` is the share of them, [0, 1], that get interrupted."""
    queues: list[list[Job]] = [[] for _ in range(clients)]
    generator = random.Random(seed)
    for number in range(edits):
        client = number % clients
        interrupt = Interrupt(generator.random(), generator.random() < 0.5) if generator.random() < interrupts else None
        edit = generator.choice(edits_of(client))
        queues[client].append(Job(f"soak_{client}_{number:04}_", edit, interrupt))
    return queues
