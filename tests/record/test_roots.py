"""Where runs cannot be kept."""

import pytest

from bench.core.params import UserError
from bench.record.store import Store


def test_a_root_of_an_unknown_kind_is_one_sentence():
    with pytest.raises(UserError, match="cannot be kept under 'nowhere://runs'"):
        Store("nowhere://runs", "run")
