"""Where runs cannot be kept."""

import pytest

from bench.core.params import UserError
from bench.record.store import Store


def test_a_root_of_an_unknown_kind_is_one_sentence():
    with pytest.raises(UserError, match=r"cannot open nowhere://runs .*Protocol not known"):
        Store("nowhere://runs", "run")
