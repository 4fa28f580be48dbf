"""A run that the machine has no memory for is refused before it begins."""

import logging
from types import SimpleNamespace

import pytest

from cryoformer.errors import InputError
from cryoformer.run.memory import tell_memory


@pytest.mark.parametrize(("gib", "refused", "warned"), [(4, True, False), (8, False, True), (64, False, False)])
def test_what_does_not_fit_is_told(
    gib: int, refused: bool, warned: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=gib * 2**30))
    caplog.set_level(logging.WARNING, logger="cryoformer")
    if refused:
        with pytest.raises(InputError, match="downsample"):
            tell_memory(box=256, components=6, images_gib=2.0)
    else:
        assert "GiB" in tell_memory(box=256, components=6, images_gib=2.0)
    assert bool(caplog.records) == warned
