"""Wells, populations and barriers with their intervals; and the command, from images to its files."""

import json
from pathlib import Path

import numpy as np
import pytest

from cryoformer.cli import main
from cryoformer.states.free_energy import RESOLUTION, FreeEnergy, free_energy, population_of, smoothing
from states.test_deconvolution import ALONG, PLACES, observed, on_a_plane, two_wells


@pytest.fixture(scope="module")
def double() -> FreeEnergy:
    return free_energy(observed(two_wells(), 0.1, 1500, seed=5)[0], bootstraps=60)


def truth_as_told(found: FreeEnergy) -> np.ndarray:
    """The law at the resolution that free energies are told at."""
    lengths = np.full(PLACES, 1 / PLACES)
    return -np.log(smoothing(ALONG[:, None], lengths, RESOLUTION * found.uncertainty) @ two_wells())


def test_populations_and_barriers_of_two_wells(double: FreeEnergy) -> None:
    truth = truth_as_told(double)
    left, right = double.wells
    (barrier,) = double.barriers
    assert double.along[left.place] == pytest.approx(0.25, abs=0.06)
    assert double.along[right.place] == pytest.approx(0.75, abs=0.06)
    assert left.population.low <= 0.7 <= left.population.high
    assert left.population.value + right.population.value == pytest.approx(1.0)
    assert 0.02 < left.population.high - left.population.low < 0.1
    height = float(truth[16] - truth[8])
    assert barrier.over_first.value == pytest.approx(height, abs=1.0)
    assert barrier.over_first.low > 1.0


def test_interval_holds_the_truth_place_by_place(double: FreeEnergy) -> None:
    truth, shares = truth_as_told(double), two_wells()
    shift = float((truth - double.energy) @ shares)
    inside = (double.low + shift <= truth) & (truth <= double.high + shift)
    assert inside[truth - truth.min() < 3].mean() > 0.7
    assert (double.low <= double.high).all()


def test_population_of_a_stretch(double: FreeEnergy) -> None:
    everything, half = population_of(double, ALONG < 2), population_of(double, ALONG < 0.5)
    assert (everything.value, everything.low, everything.high) == pytest.approx((1, 1, 1))
    assert half.low <= 0.7 <= half.high


def test_without_wells_none_are_found() -> None:
    for seed in range(3):
        found = free_energy(observed(np.full(PLACES, 1 / PLACES), 0.1, 1000, seed)[0], bootstraps=40)
        assert len(found.wells) == 1
        assert not found.barriers


def test_populations_of_four_wells_of_a_plane() -> None:
    centres = np.array([[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]])
    images, counts = on_a_plane(np.array([0.4, 0.3, 0.2, 0.1]), 1200)
    shares, found = counts / 1200, free_energy(images, bootstraps=40)
    assert len(found.wells) == 4
    which = [int(np.linalg.norm(centres - found.positions[well.place], axis=1).argmin()) for well in found.wells]
    assert sorted(which) == [0, 1, 2, 3]
    for well, number in zip(found.wells, which, strict=True):
        assert well.population.value == pytest.approx(shares[number], abs=0.04)
        assert well.population.low <= shares[number] <= well.population.high
        assert well.population.high - well.population.low < 0.15
    # Across the middle the way is higher than over either of the others.
    crossed = {tuple(sorted(which[number] for number in barrier.wells)) for barrier in found.barriers}
    assert crossed == {(0, 1), (0, 2), (1, 3), (2, 3)}
    assert found.uncertainty == pytest.approx([0.08, 0.05], rel=0.4)


def test_more_particles_narrow_the_intervals() -> None:
    few, many = (free_energy(observed(two_wells(), 0.1, n)[0], bootstraps=40).wells[0].population for n in (300, 4800))
    assert many.high - many.low < 0.5 * (few.high - few.low)


def test_command_writes_what_it_finds(
    swinging_run: tuple[Path, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The blob is anywhere with the same probability, which a histogram of latents would not show at its ends."""
    run, t = swinging_run
    assert main(["free-energy", str(run), "--out", str(tmp_path), "--bootstraps", "40"]) == 0
    assert "no barrier of 1 kT or more is certain" in capsys.readouterr().out
    facts = json.loads((tmp_path / "free_energy.json").read_text())
    populations = np.array(facts["populations"])
    assert populations.sum() == pytest.approx(1.0)
    # The middle of the path is the middle of the swing: roughly, for where on its path a small network puts a state
    # hangs on the last digits of its training. The true share is 0.52.
    middle = populations[np.abs(np.array(facts["positions"])[:, 0] - 0.5) < 0.25].sum()
    assert middle == pytest.approx(((t > 0.25) & (t < 0.75)).mean(), abs=0.2)
    assert (tmp_path / "free_energy.png").stat().st_size > 10_000
    table = (tmp_path / "free_energy.csv").read_text().splitlines()
    assert table[0].startswith("along,free_energy_kt,low,high,population,length,latent_0")
    assert len(table) == 1 + len(facts["positions"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--component", "1", "--between", "0", "1"], "give one of --component, --between, --points and --plane"),
        (["--plane", "1", "9"], "--plane 9: the run has components 1 to"),
        (["--component", "9"], "--component 9: the run has components 1 to"),
        (["--between", "0", "5000"], "there is no particle 5000; the run has 600"),
        (["--bootstraps", "10"], "--bootstraps 10: expected 40 or more"),
        (["--points", "none.npy"], "--points none.npy: cannot be read"),
    ],
)
def test_what_cannot_be(
    swinging_run: tuple[Path, np.ndarray],
    options: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["free-energy", str(swinging_run[0]), "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
