"""Named noise is a pure function of its name, and standard normal."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.noise import NoiseSource, uniform


@given(start=st.integers(0, 300), length=st.integers(1, 200), step=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_rows_do_not_depend_on_batching(start, length, step):
    source = NoiseSource(3, "task", "cat")
    whole = source.normal("x0", step, (2, 3), range(600))
    part = source.normal("x0", step, (2, 3), range(start, start + length))
    assert torch.equal(part, whole[start : start + length])


def test_every_part_of_the_name_matters():
    base = NoiseSource(0, "a", "c").normal("x", 0, (4,), range(8))
    others = [
        NoiseSource(1, "a", "c").normal("x", 0, (4,), range(8)),
        NoiseSource(0, "b", "c").normal("x", 0, (4,), range(8)),
        NoiseSource(0, "a", "d").normal("x", 0, (4,), range(8)),
        NoiseSource(0, "a", "c").normal("y", 0, (4,), range(8)),
        NoiseSource(0, "a", "c").normal("x", 1, (4,), range(8)),
    ]
    assert all(not torch.equal(base, other) for other in others)


def test_normals_are_standard_and_independent():
    z = NoiseSource(0, "t").normal("x", 0, (50,), range(4096)).double()
    n = z.numel()
    assert abs(float(z.mean())) < 4 / n**0.5
    assert abs(float(z.var()) - 1) < 4 * (2 / n) ** 0.5
    assert abs(float((z[:, 0] * z[:, 1]).mean())) < 4 / 64
    assert abs(float((z[:-1, 0] * z[1:, 0]).mean())) < 4 / 64
    u = uniform(z)
    assert float(u.min()) > 0 and float(u.max()) < 1 and abs(float(u.mean()) - 0.5) < 0.01


def test_global_generators_are_untouched():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    NoiseSource(0, "t").normal("x", 0, (5,), range(10))
    assert torch.equal(before, torch.get_rng_state())
