"""The fit of parts as a whole: it goes on where it was stopped, and two halves say how well a motion is known."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cryoformer.parts import fit
from cryoformer.parts.fit import FitState, PartFit
from cryoformer.parts.motion import PartMotions
from cryoformer.parts.part_files import motion_error
from cryoformer.parts.rounds import PartModel, PartRounds
from cryoformer.progress import RunLog
from swinging_bar import ANGLE, model_of, motions_of, simulate, states, swing


class Stopped(Exception):
    pass


def begin(t: torch.Tensor) -> FitState:
    return FitState(model_of(motions_of(0.8)), (t * 31).round().long()[:, None].repeat(1, 2))


def test_a_fit_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    images, t = simulate(torch.zeros(160, 3))
    rows, held_out = torch.arange(150), torch.arange(150, 160)
    monkeypatch.setattr(fit, "FIRST_ROUNDS", 3)
    state, path = begin(torch.from_numpy(t)), tmp_path / "state.safetensors"
    with RunLog(None) as log:
        _, whole, reached = PartFit(images, rows, held_out, log, 0).finish(state)
        plain = PartRounds.round

        def stops(rounds: PartRounds, number: int):
            # The halves' rounds are counted from 0 as well, of fewer images.
            if number == 3:
                raise Stopped
            return plain(rounds, number)

        monkeypatch.setattr(PartRounds, "round", stops)
        stopped = PartFit(images, rows, held_out, log, 0, None, path)
        with pytest.raises(Stopped):
            stopped.finish(state)
        seen = []
        monkeypatch.setattr(PartRounds, "round", lambda rounds, number: seen.append(number) or plain(rounds, number))
        again = FitState.load(path, state.model.occupancy, state.model.support)
        _, continued, there = stopped.finish(again)
    assert seen == [3]
    torch.testing.assert_close(continued.evidence, whole.evidence)
    torch.testing.assert_close(there.of_halves, reached.of_halves)
    halves = [replace(reached.model.motions, coefficients=each) for each in reached.of_halves]
    assert not torch.equal(halves[0].coefficients, halves[1].coefficients)
    error, _ = motion_error(reached.model.motions, halves, 0, states(200))
    # So few images know the swing badly, and say so.
    assert 1.0 < error < 20.0
    assert abs(math.degrees(swing(reached.model.motions) - ANGLE)) < 3 * error


def test_the_error_of_a_motion_is_half_of_what_halves_differ_by():
    motions = motions_of(1.0)
    halves: list[PartMotions] = [motions_of(share) for share in (0.95, 1.05)]
    error, way = motion_error(motions, halves, 0, states(400))
    # Of the swing between the hundredths at either end.
    assert error == pytest.approx(0.98 * 0.05 * math.degrees(ANGLE), rel=0.03)
    assert way == pytest.approx(0.0, abs=1e-3)


def test_a_model_of_one_part_is_kept_whole(tmp_path: Path):
    images, t = simulate(torch.zeros(40, 3))
    state = begin(torch.from_numpy(t))
    rounds = PartRounds(images, state.model, torch.arange(40), 0)
    rounds.begin(state.draws)
    state = replace(state, densities=rounds.densities, done=2)
    state.save(tmp_path / "state.safetensors")
    same = FitState.load(tmp_path / "state.safetensors", state.model.occupancy, state.model.support)
    assert isinstance(same.model, PartModel)
    assert same.done == 2
    torch.testing.assert_close(same.draws, state.draws)
    torch.testing.assert_close(same.model.motions.coefficients, state.model.motions.coefficients)
    torch.testing.assert_close(same.densities.parts, rounds.densities.parts)


def test_halves_of_a_half_divide_images_not_rows(monkeypatch: pytest.MonkeyPatch):
    images, t = simulate(torch.zeros(80, 3))
    # Every image twice, one row after the other; halves of the data as the images have them.
    shown = torch.arange(80) // 2
    images = replace(images, halves=shown % 2, shard=images.part.with_repeats(shown))
    state, seen = begin(torch.from_numpy(t)), []
    monkeypatch.setattr(PartRounds, "round", lambda rounds, number: seen.append(rounds.images.halves))
    with RunLog(None) as log:
        whole = PartRounds(images, state.model, torch.arange(80), 0)
        whole.densities = None
        for half in (0, 1):
            PartFit(images, torch.arange(80), torch.arange(0), log, 0)._half(whole, half)
    for halves in seen:
        assert torch.equal(halves[::2], halves[1::2])
        assert halves.float().mean() == 0.5
