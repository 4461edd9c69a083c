"""A user's own code by name: what is offered where the name is wrong."""

from __future__ import annotations

import pytest

from devices.support.errors import UserError
from devices.support.factories import load_factory


def test_what_a_file_imports_is_not_offered_as_a_factory(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text("import json\nWIDTH = 8\ndef network(): return WIDTH\n")
    with pytest.raises(UserError, match=r"unknown factory in .*nets\.py 'jsn': known: network$"):
        load_factory(f"{path}:jsn")
