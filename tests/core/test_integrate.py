"""Times that a batch shares."""

import torch

from bench.core.integrate import filled, same_everywhere


def test_a_filled_vector_is_known_to_hold_one_number_without_reading_it():
    times = filled(0.25, torch.empty(5, 2, dtype=torch.float64, device="meta"))
    assert same_everywhere(times)  # reading a meta tensor would raise
    assert times.shape == (5,) and times.dtype == torch.float64
    assert same_everywhere(times.expand(3, 5).reshape(15))


def test_other_vectors_are_read():
    assert same_everywhere(torch.full((4,), 0.5))
    assert not same_everywhere(torch.tensor([0.5, 0.25]))
    assert same_everywhere(torch.tensor([0.5]))
