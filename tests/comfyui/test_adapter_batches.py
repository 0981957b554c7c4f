"""The same picture whether ComfyUI runs rows together or, short of memory, one by one; of any size."""

import pytest
from harness.adapter_graph import difference

EXACT = 1e-5
FELT = 0.02
COUNT = 3


def batch_sizes(server, label: str) -> set[int]:
    """The numbers of rows that a model marked by the test pack ran with."""
    lines = server.log.read_text(errors="replace").splitlines()
    return {int(line.rpartition(" ")[2]) for line in lines if f"{label}: " in line}


def test_a_batch_split_by_low_memory(client, server, painting):
    model, positive, negative = painting.apply(local=painting.other_vector if painting.kind == "two_view" else None)
    latent = painting.add_empty(count=COUNT)
    names, labels = {}, {}
    for split in (False, True):
        labels[split] = f"{painting.kind} split {split}"
        watched = painting.add("Any2PixTestBatches", model=model, label=labels[split], split=split)
        names[split] = painting.sample(watched, positive, negative, latent)
    alone = []
    for place in range(COUNT):
        single = painting.add("LatentFromBatch", samples=latent, batch_index=place, length=1)
        alone.append(painting.sample(model, positive, negative, single))
    found = painting.run(client)
    assert batch_sizes(server, labels[False]) == {2 * COUNT}, "both sides should run together"
    assert batch_sizes(server, labels[True]) == {COUNT}, "the split must have happened"
    assert difference(found[names[True]], found[names[False]]) < EXACT
    for place, name in enumerate(alone):
        assert difference(found[name], found[names[False]][place : place + 1]) < EXACT


def test_three_sides_and_regions_split_by_low_memory(client, server, painting):
    """DualCFGGuider with a region: five rows of two embeddings, together or one by one."""
    model, positive, negative = painting.apply()
    _, second, _ = painting.apply(painting.other_vector, positive=painting.other_text)
    mask = painting.add("SolidMask", value=0.5, width=128, height=128)
    region = painting.add("ConditioningSetMask", conditioning=second, mask=mask, strength=1.0, set_cond_area="default")
    both = painting.add("ConditioningCombine", conditioning_1=positive, conditioning_2=region)
    sides = {"cond1": both, "cond2": second, "negative": negative, "cfg_conds": 3.0, "cfg_cond2_negative": 2.0}
    names = []
    for split in (False, True):
        label = f"{painting.kind} dual {split}"
        watched = painting.add("Any2PixTestBatches", model=model, label=label, split=split)
        names.append(painting.guide("DualCFGGuider", model=watched, **sides, style="regular"))
    found = painting.run(client)
    assert batch_sizes(server, f"{painting.kind} dual False") == {4}
    assert batch_sizes(server, f"{painting.kind} dual True") == {1}
    assert difference(*(found[name] for name in names)) < EXACT


@pytest.mark.parametrize(("width", "height"), [(104, 72), (40, 200), (16, 24)])
def test_any_size(client, painting, width, height):
    latent = painting.add_empty(width, height)
    names = [painting.sample(*painting.apply(vector), latent) for vector in (painting.vector, painting.other_vector)]
    found = painting.run(client)
    assert found[names[0]].shape == (1, 4, height // 8, width // 8)
    assert difference(*(found[name] for name in names)) > FELT
