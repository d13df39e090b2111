from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No progress bars, and no word on which pipelines diffusers means to retire."""
    monkeypatch.setenv("TQDM_DISABLE", "1")
