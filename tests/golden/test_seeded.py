"""The streams that the goldens' weights come from: when these numbers change, every golden has to be made again."""

import torch
from golden_inputs import seeded

EXPECTED = [0.542188823223114, -1.5983681678771973, 0.28939172625541687, 0.3328837454319]


def test_a_stream_depends_on_key_and_seed_alone():
    drawn = seeded.draw("model.norm.weight", (4,), 7)
    assert torch.equal(drawn, torch.tensor(EXPECTED))
    assert not torch.equal(drawn, seeded.draw("model.norm.weight", (4,), 8))
    assert not torch.equal(drawn, seeded.draw("model.norm.bias", (4,), 7))


def test_weights_have_the_scale_of_an_untrained_network():
    wide = seeded.weight("fc.weight", (64, 256), 1)
    torch.testing.assert_close(wide.std(), torch.tensor(256**-0.5), rtol=0.02, atol=0)
    assert abs(float(seeded.weight("norm.weight", (4096,), 1).mean()) - 1) < 0.01
    assert abs(float(seeded.weight("norm.bias", (4096,), 1).mean())) < 0.01


def test_fill_leaves_constants_and_scalars():
    module = torch.nn.Module()
    module.register_buffer("mask", torch.full((2, 2), -5.0))
    module.scale, module.weight = torch.nn.Parameter(torch.tensor(3.0)), torch.nn.Parameter(torch.zeros(2, 2))
    text = torch.nn.ModuleDict({"text": module})
    seeded.fill(text, 1)
    assert module.scale.item() == 3.0 and torch.equal(module.mask, torch.full((2, 2), -5.0))
    assert torch.equal(module.weight, seeded.weight("text.weight", (2, 2), 1))
