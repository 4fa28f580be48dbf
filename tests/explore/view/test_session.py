"""What the page is told: surfaces, differences and slices of decoded states, as messages."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from assess.toy_run import BOX, PIXEL_SIZE
from cryoformer.errors import InputError
from cryoformer.explore.flexibility import STATES
from cryoformer.explore.view import decoder
from cryoformer.explore.view.decoder import StateDecoder
from cryoformer.explore.view.requests import live_request
from cryoformer.explore.view.session import Session
from cryoformer.explore.view.wire import pack
from cryoformer.files import write_mrc_volume
from cryoformer.run.run_folder import open_run


def unpack(message: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """As the page reads it (viewer/src/wire.ts)."""
    length = int.from_bytes(message[:4], "little")
    header, place, arrays = json.loads(message[4 : 4 + length]), 4 + length, {}
    for entry in header["arrays"]:
        count = int(np.prod(entry["shape"]))
        kind = np.dtype(entry["type"])
        arrays[entry["name"]] = np.frombuffer(message, kind, count, place).reshape(entry["shape"])
        place += -(-count * kind.itemsize // 4) * 4
    return header, arrays


def ask(session: Session, **request: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    values = {"panel": "current", "serial": 1, "state": {"map": "pc12", "at": [0.2, -0.1]}, **request}
    return unpack(session.answer(live_request.validate_python(values)))


def test_arrays_travel_whole_and_aligned() -> None:
    sent = {"a": np.arange(5, dtype=np.uint8), "b": np.arange(6.0).reshape(2, 3), "c": np.arange(3, dtype=np.int32)}
    header, arrays = unpack(pack({"kind": "test"}, sent))
    assert header["kind"] == "test"
    for name, array in sent.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_a_surface_changes_with_the_state_and_the_threshold(session: Session) -> None:
    level = session.summary()["level"]
    here, first = ask(session, kind="surface", level=level)
    _, there = ask(session, kind="surface", level=level, state={"map": "pc12", "at": [-0.9, 0.9]})
    _, higher = ask(session, kind="surface", level=1.5 * level)
    assert first["vertices"].shape == first["normals"].shape
    assert first["faces"].max() == len(first["vertices"]) - 1
    assert here["serial"] == 1
    assert here["box"] == BOX
    assert not np.array_equal(first["vertices"], there["vertices"])
    assert np.ptp(higher["vertices"], axis=0).max() < np.ptp(first["vertices"], axis=0).max()


def test_the_surface_is_that_of_the_runs_own_volume(session: Session) -> None:
    state = {"particle": 37}
    volume = next(iter(session.run.particle_volumes([37])))
    header, arrays = ask(session, kind="slice", state=state, places=[0.5, 0.25, 1.0])
    assert header["indices"] == [12, 6, 23]
    np.testing.assert_allclose(arrays["x"] * session.sigma, volume[:, :, 12], atol=1e-4)
    np.testing.assert_allclose(arrays["y"] * session.sigma, volume[:, 6], atol=1e-4)
    np.testing.assert_allclose(arrays["z"] * session.sigma, volume[23], atol=1e-4)


def test_a_difference_has_what_is_gained_and_what_is_lost(session: Session) -> None:
    one, other = {"particle": 0}, {"particle": 99}
    _, there = ask(session, kind="difference", state=one, minus=other, level=0.2)
    _, back = ask(session, kind="difference", state=other, minus=one, level=0.2)
    header, none = ask(session, kind="difference", state=one, minus=one, level=0.2)
    assert len(there["more_vertices"]) + len(there["less_vertices"]) > 0
    np.testing.assert_array_equal(there["more_vertices"], back["less_vertices"])
    assert header["largest"] == 0
    assert len(none["more_vertices"]) == len(none["less_vertices"]) == 0


def test_colours_come_from_the_analysis_or_are_computed(own_run: Path) -> None:
    bare = Session(open_run(own_run))
    assert bare.summary()["colourings"] == [{"name": "flexibility", "title": "Flexibility"}]
    header, arrays = ask(bare, kind="surface", level=2.0, colour="flexibility")
    assert arrays["values"].shape == (len(arrays["vertices"]),)
    assert 0 < arrays["values"].max() < 10 * header["colouring"]["high"]

    # A map that says nothing but which side of the box a voxel is on.
    side = np.broadcast_to(np.arange(BOX) - BOX // 2.0, (BOX, BOX, BOX))
    write_mrc_volume(own_run / "analysis" / "attention" / "part_01.mrc", side, PIXEL_SIZE)
    write_mrc_volume(own_run / "analysis" / "attention" / "part_01_change.mrc", side, PIXEL_SIZE)
    analysed = Session(open_run(own_run))
    assert [entry["name"] for entry in analysed.summary()["colourings"]] == ["flexibility", "part1"]
    _, arrays = ask(analysed, kind="surface", level=2.0, colour="part1")
    np.testing.assert_allclose(arrays["values"], arrays["vertices"][:, 0] / PIXEL_SIZE, atol=1e-3)
    with pytest.raises(InputError, match="no colouring 'part2'"):
        ask(analysed, kind="surface", level=2.0, colour="part2")


def test_a_map_of_another_box_is_refused(own_run: Path) -> None:
    write_mrc_volume(own_run / "analysis" / "uncertainty.mrc", np.ones((8, 8, 8)), PIXEL_SIZE)
    with pytest.raises(InputError, match=r"uncertainty\.mrc"):
        ask(Session(open_run(own_run)), kind="surface", level=2.0, colour="uncertainty")


@pytest.mark.parametrize(
    "state",
    [{}, {"map": "pc12"}, {"map": "nowhere", "at": [0, 0]}, {"path": "nowhere", "place": 0.5}, {"particle": 100}],
)
def test_states_that_do_not_exist_are_refused(session: Session, state: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        ask(session, kind="surface", level=2.0, state=state)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "volume"},
        {"kind": "surface"},
        {"kind": "surface", "level": float("nan")},
        {"kind": "surface", "level": 1.0, "file": "/etc/passwd"},
        {"kind": "slice", "places": [0.5, 0.5, 2.0]},
        {"kind": "difference", "minus": {"particle": 1}, "level": -1.0},
    ],
)
def test_requests_that_make_no_sense_are_refused(session: Session, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ask(session, **wrong)


def test_large_boxes_are_live_at_a_coarser_grid_on_the_same_scale(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "LIVE_BOX", 20)
    monkeypatch.setattr(decoder, "COARSE_BOX", 16)
    coarse = StateDecoder(session.run.model)
    latent = session.run.latents[5].astype(np.float64)
    live, full = coarse.density(latent, "live"), coarse.density(latent, "full")
    assert live.shape == (16, 16, 16)
    assert full.shape == (BOX, BOX, BOX)
    # The same molecule in fewer voxels: the same mean density, and much the same peak.
    assert live.mean() == pytest.approx(full.mean(), rel=0.1)
    assert live.max() == pytest.approx(full.max(), rel=0.2)


def test_flexibility_is_the_spread_of_the_densities(session: Session) -> None:
    volumes = np.stack(list(session.run.latent_volumes(session.run.latents)))
    # All particles of the small run are in the sample.
    assert len(volumes) <= STATES
    np.testing.assert_allclose(session._flexibility(), volumes.std(axis=0), atol=1e-4)
