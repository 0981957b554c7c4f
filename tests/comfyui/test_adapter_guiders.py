"""Every guider of ComfyUI hands each side its own embedding."""

from harness.adapter_graph import CFG, difference

EXACT = 1e-5  # relative; the order of additions differs between the guiders
FELT = 0.02


def test_the_normal_guider(client, painting):
    model, positive, negative = painting.apply()
    stock = painting.sample(model, positive, negative)
    guided = painting.guide("CFGGuider", model=model, positive=positive, negative=negative, cfg=CFG)
    other = painting.sample(*painting.apply(painting.other_vector))
    swapped = painting.sample(model, negative, positive)
    split = painting.sample(painting.split(model), positive, negative)
    found = painting.run(client)
    assert difference(found[guided], found[stock]) < EXACT
    assert difference(found[split], found[stock]) < EXACT
    assert difference(found[other], found[stock]) > FELT, "the embedding must be felt"
    assert difference(found[swapped], found[stock]) > FELT, "the sides must differ"


def test_dual_cfg_guider(client, painting):
    """Its three sides come in another order than the normal guider's two. Where two of them are the same it is that
    guider."""
    model, positive, negative = painting.apply()
    _, middle, _ = painting.apply_again((model, painting.other_text, painting.away), painting.other_vector)

    def dual(one, two, on=model):
        sides = {"cond1": one, "cond2": two, "negative": negative, "cfg_conds": 4.0, "cfg_cond2_negative": CFG}
        return painting.guide("DualCFGGuider", model=on, **sides, style="regular")

    first, second, three = dual(positive, negative), dual(middle, middle), dual(positive, middle)
    split = dual(positive, middle, painting.split(model))
    expected = [painting.sample(model, positive, negative, cfg=4.0), painting.sample(model, middle, negative, cfg=CFG)]
    found = painting.run(client)
    assert difference(found[first], found[expected[0]]) < EXACT
    assert difference(found[second], found[expected[1]]) < EXACT
    assert min(difference(found[three], found[name]) for name in (first, second)) > FELT
    assert difference(found[split], found[three]) < EXACT


def test_perp_neg_guider(client, painting):
    """With the empty side as its negative it is the normal guider."""
    model, positive, negative = painting.apply(negative_embedding=painting.other_vector)
    _, _, empty = painting.apply()

    def perp_neg(bad, on=model):
        sides = {"positive": positive, "negative": bad, "empty_conditioning": empty}
        return painting.guide("PerpNegGuider", model=on, **sides, cfg=CFG, neg_scale=1.0)

    same, three, split = perp_neg(empty), perp_neg(negative), perp_neg(negative, painting.split(model))
    expected = painting.sample(model, positive, empty)
    found = painting.run(client)
    assert difference(found[same], found[expected]) < EXACT
    assert difference(found[three], found[same]) > FELT / 4
    assert difference(found[split], found[three]) < EXACT
