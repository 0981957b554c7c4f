"""One way to bring an embedding to a length."""

import pytest
import torch
from any2pix.stages.length import to_length


def test_rows_keep_their_direction():
    given = torch.tensor([[3.0, 4.0], [0.0, -0.5]], dtype=torch.float64)
    torch.testing.assert_close(to_length(given, 20.0), torch.tensor([[12.0, 16.0], [0.0, -20.0]]))


@pytest.mark.parametrize(
    ("value", "fault"), [(0.0, "is all zeros, so it has no direction"), (float("nan"), "holds NaN or infinite numbers")]
)
def test_what_has_no_direction_is_named(value, fault):
    with pytest.raises(ValueError, match=f"The embedding of image1 {fault}. Look there."):
        to_length(torch.tensor([[1.0, 1.0], [value, value]]), 20.0, "embedding of image1", "Look there.")
