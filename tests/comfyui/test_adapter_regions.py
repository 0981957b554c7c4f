"""Regional and time-ranged conditioning: each row brings its own embedding."""

from harness.adapter_graph import SIZE, difference

EXACT = 1e-5
FELT = 0.02
HALF = SIZE // 2
CELLS = HALF // 8  # latent cells of a half


def test_masked_regions_are_the_embeddings_side_by_side(client, painting):
    """In one step without guidance the picture is, place by place, that of the embedding whose mask is there."""
    left_mask = painting.add("SolidMask", value=1.0, width=HALF, height=SIZE)
    nothing = painting.add("SolidMask", value=0.0, width=SIZE, height=SIZE)
    masks = [
        painting.add("MaskComposite", destination=nothing, source=left_mask, x=x, y=0, operation="add")
        for x in (0, HALF)
    ]
    model, first, negative = painting.apply()
    model, second, _ = painting.apply(painting.other_vector, model=model, positive=painting.other_text)
    sides = [
        painting.add("ConditioningSetMask", conditioning=side, mask=mask, strength=1.0, set_cond_area="default")
        for side, mask in zip((first, second), masks, strict=True)
    ]
    both = painting.add("ConditioningCombine", conditioning_1=sides[0], conditioning_2=sides[1])
    names = [
        painting.guide("CFGGuider", steps=1, model=model, positive=positive, negative=negative, cfg=1.0)
        for positive in (both, first, second)
    ]
    names += [painting.sample(on, both, negative) for on in (model, painting.split(model))]
    found = painting.run(client)
    mixed, left, right, whole, split = (found[name] for name in names)
    assert difference(split, whole) < EXACT
    assert difference(mixed[..., :CELLS], left[..., :CELLS]) < EXACT
    assert difference(mixed[..., CELLS:], right[..., CELLS:]) < EXACT
    assert difference(left, right) > FELT


def test_areas(client, painting):
    """An area runs on its cut-out of the latent. What is painted in one half does not reach the other in one step."""

    def combined(second):
        areas = [
            painting.add("ConditioningSetArea", conditioning=side, x=x, y=0, width=HALF, height=SIZE, strength=1.0)
            for side, x in ((first, 0), (second, HALF))
        ]
        return painting.add("ConditioningCombine", conditioning_1=areas[0], conditioning_2=areas[1])

    model, first, negative = painting.apply()
    _, second, _ = painting.apply(painting.other_vector)
    whole = painting.add("ConditioningSetArea", conditioning=first, x=0, y=0, width=SIZE, height=SIZE, strength=1.0)
    names = [
        painting.guide("CFGGuider", steps=1, model=model, positive=positive, negative=negative, cfg=1.0)
        for positive in (first, whole, combined(second), combined(first))
    ]
    names += [painting.sample(on, combined(second), negative) for on in (model, painting.split(model))]
    found = painting.run(client)
    plain, everywhere, two, one, batched, split = (found[name] for name in names)
    assert difference(split, batched) < EXACT
    assert difference(everywhere, plain) < EXACT
    assert difference(two[..., :CELLS], one[..., :CELLS]) < EXACT
    assert difference(two[..., CELLS:], one[..., CELLS:]) > FELT


def test_a_region_with_an_embedding_beside_one_without(client, painting):
    """Rows without an embedding run on their own: the plain text (two views), or nothing (unCLIP)."""
    model, first, negative = painting.apply()
    if painting.kind == "two_view":
        second, plain_model = painting.other_text, painting.model
    else:
        null = painting.apply(painting.other_vector, scale=0.0)
        second, plain_model = null[1], null[0]
    mask = painting.add("SolidMask", value=0.5, width=SIZE, height=SIZE)
    sides = [
        painting.add("ConditioningSetMask", conditioning=side, mask=mask, strength=1.0, set_cond_area="default")
        for side in (first, second)
    ]
    both = painting.add("ConditioningCombine", conditioning_1=sides[0], conditioning_2=sides[1])
    names = [
        painting.guide("CFGGuider", steps=1, model=used, positive=positive, negative=negative, cfg=1.0)
        for used, positive in ((model, both), (model, first), (plain_model, second))
    ]
    found = painting.run(client)
    mixed, one, other = (found[name] for name in names)
    assert difference(mixed, (one + other) / 2) < EXACT
    assert difference(one, other) > FELT


def test_time_ranges(client, painting):
    """Stock nodes that end one conditioning and start another halfway paint what end_percent paints."""

    def between(conditioning, start, end):
        return painting.add("ConditioningSetTimestepRange", conditioning=conditioning, start=start, end=end)

    def swapped_halfway(one, other):
        return painting.add(
            "ConditioningCombine", conditioning_1=between(one, 0.0, 0.45), conditioning_2=between(other, 0.45, 1.0)
        )

    applied = painting.apply()
    off = (painting.model, painting.text, painting.away) if painting.kind == "two_view" else painting.apply(scale=0.0)
    stock = painting.sample(
        applied[0], *(swapped_halfway(one, other) for one, other in zip(applied[1:], off[1:], strict=True))
    )
    ours = painting.sample(*painting.apply(end_percent=0.45))
    whole = painting.sample(*applied)
    model, *sides = painting.apply(end_percent=0.45)
    split = painting.sample(painting.split(model), *sides)
    found = painting.run(client)
    assert difference(found[ours], found[stock]) < EXACT
    assert difference(found[ours], found[whole]) > FELT / 4
    assert difference(found[split], found[ours]) < EXACT
