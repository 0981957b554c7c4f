"""What the soak calls a fault, on made outcomes, and that its plan is what it says."""

from dataclasses import replace

import pytest
from any2pix.benchmarks.soak_plan import Edit, Interrupt, Job, edits_of, plan_jobs
from any2pix.benchmarks.soak_report import Ended, page, summarise

EDITS = [Edit("a.png", "b.wav", "add [audio1] to [image1]", seed) for seed in range(10)]
EXPECTED = {edit: f"digest {edit.seed}" for edit in EDITS}


def ended_well(number: int, memory: float = 500.0) -> Ended:
    job = Job(f"soak_0_{number:04}_", EDITS[number], None)
    return Ended(job, "success", float(number), memory, f"{job.prefix}_00001_.png", EXPECTED[job.edit])


@pytest.fixture
def ended():
    return [ended_well(number) for number in range(10)]


def test_all_as_it_should_be(ended):
    figures = summarise(ended, EXPECTED, 10)
    assert (figures["right"], figures["interrupted"], figures["faults"], figures["growth"]) == (10, 0, [], 0.0)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"digest": EXPECTED[EDITS[7]]}, f"soak_0_0003_ has the picture of {EDITS[7]}"),
        ({"digest": "noise"}, "soak_0_0003_ has a picture of no edit"),
        ({"name": "soak_0_0007__00001_.png"}, "soak_0_0003_ got the file soak_0_0007__00001_.png of another job"),
        ({"outcome": "error"}, "soak_0_0003_ ended as error"),
        ({"outcome": "forgotten", "name": None, "digest": None}, "soak_0_0003_ ended as forgotten"),
        ({"outcome": "interrupted"}, "soak_0_0003_ was interrupted, but no client asked for it"),
    ],
)
def test_what_went_wrong_is_told(ended, change, told):
    ended[3] = replace(ended[3], **change)
    figures = summarise(ended, EXPECTED, 10)
    assert told in figures["faults"]
    assert figures["right"] == 9


def test_a_prompt_that_never_ended_is_told(ended):
    assert summarise(ended[1:], EXPECTED, 10)["faults"] == ["1 prompts never ended"]


def test_more_ends_by_interrupt_than_interrupts_are_told(ended):
    asked = replace(ended[0].job, interrupt=Interrupt(0.5, whatever_runs=True))
    ended[0] = replace(ended[0], job=asked, outcome="interrupted")
    assert summarise(ended, EXPECTED, 10)["faults"] == []
    ended[1] = replace(ended[1], outcome="interrupted")
    assert summarise(ended, EXPECTED, 10)["faults"] == ["2 prompts were interrupted by 1 interrupts"]


def test_edits_that_look_alike_are_told(ended):
    alike = {**EXPECTED, EDITS[1]: EXPECTED[EDITS[0]]}
    assert any("a swap of them would not show" in fault for fault in summarise(ended, alike, 10)["faults"])


def test_growth_is_between_the_first_edits_after_the_warm_up_and_the_last():
    memory = [100, 300, 500, 500, 900, 900, 900, 900, 510, 530]  # of ten: two of warm-up, two, ..., the last two
    ended = [ended_well(number, megabytes) for number, megabytes in enumerate(memory)]
    figures = summarise(ended, EXPECTED, 10)
    assert (figures["before"], figures["after"], figures["growth"]) == (500, 520, 4.0)
    assert figures["windows"] == [[3, 4], [9, 10]]
    told = {"clients": 4, "steps": 2, "seconds": 60.0, "unfinished files": [], "machine": "a computer"}
    assert "| growth | +4.00 % |" in page({**figures, **told}, "a command")


def test_the_plan_is_the_seeds_and_no_two_clients_share_an_edit():
    queues = plan_jobs(200, 4, seed=1, interrupts=0.15)
    assert queues == plan_jobs(200, 4, seed=1, interrupts=0.15) != plan_jobs(200, 4, seed=2, interrupts=0.15)
    assert [len(queue) for queue in queues] == [50] * 4
    jobs = [job for queue in queues for job in queue]
    assert len({job.prefix for job in jobs}) == 200
    assert 10 < sum(job.interrupt is not None for job in jobs) < 50
    distinct = [edit for client in range(8) for edit in edits_of(client)]
    assert len(set(distinct)) == len(distinct)
