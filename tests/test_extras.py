from __future__ import annotations

import pytest

from vqtok.errors import MissingExtraError
from vqtok.extras import require


def test_a_missing_extra_is_named() -> None:
    with pytest.raises(MissingExtraError) as error:
        require("no_such_package", "vqtok[video]", "'a.mp4' is read")
    assert str(error.value) == (
        "'a.mp4' is read with no_such_package, which is not installed: pip install 'vqtok[video]'"
    )


def test_a_package_that_is_there() -> None:
    assert require("json", "vqtok[video]", "a line is read").loads("3") == 3
