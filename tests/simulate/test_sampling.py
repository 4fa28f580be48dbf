"""The truth of the images: distributions, seeds, signs."""

import numpy as np
import pytest

from cryoformer.errors import InputError
from cryoformer.simulate.sampling import sample_truth, stream
from cryoformer.simulate.simulate_config import SimulateConfig


def config(**changes: object) -> SimulateConfig:
    settings = {"models": ["a.cif"], "out": "x", "images": 2000, "box": 32, "pixel_size_angstrom": 2.0, "snr": 0.1}
    return SimulateConfig(**settings | changes)


def test_t_is_uniform_and_states_are_its_tenths() -> None:
    truth = sample_truth(config(), coordinates=1)
    assert truth.t.min() >= 0
    assert truth.t.max() <= 1
    # Standard error of the mean 0.0065, of a tenth's count 13.
    assert truth.t.mean() == pytest.approx(0.5, abs=0.03)
    assert np.abs(np.bincount(truth.state, minlength=10) - 200).max() < 60
    np.testing.assert_allclose(truth.state_t, np.arange(0.05, 1.0, 0.1))
    assert np.abs(truth.t - truth.state_t[truth.state]).max() <= 0.05 + 1e-12


def test_discrete_motion_has_every_image_in_a_state() -> None:
    truth = sample_truth(config(motion="discrete"), coordinates=1)
    np.testing.assert_array_equal(truth.t, truth.state_t[truth.state])


def test_t_may_favour_the_ends() -> None:
    truth = sample_truth(config(t_beta=(0.3, 0.3)), coordinates=1)
    assert np.mean(np.abs(truth.t - 0.5) > 0.4) > 0.4


def test_a_molecule_that_stands_still_has_one_state() -> None:
    truth = sample_truth(config(), coordinates=0)
    assert (truth.t == 0).all()
    assert (truth.state == 0).all()
    np.testing.assert_array_equal(truth.state_t, [0.0])


def test_origins_fill_the_square_of_the_largest_shift() -> None:
    truth = sample_truth(config(max_shift_pixels=4.0), coordinates=1)
    assert np.abs(truth.origins_angstrom).max() <= 8.0
    assert (truth.origins_angstrom.max(axis=0) > 7.5).all()
    assert (truth.origins_angstrom.min(axis=0) < -7.5).all()
    assert (sample_truth(config(max_shift_pixels=0.0), coordinates=1).origins_angstrom == 0).all()


def test_seed_decides_everything_and_noise_level_nothing() -> None:
    one, same = sample_truth(config(seed=5), coordinates=1), sample_truth(config(seed=5, snr=10.0), coordinates=1)
    other = sample_truth(config(seed=6), coordinates=1)
    for name in ("t", "rotations", "origins_angstrom", "defocus"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
        assert not np.array_equal(getattr(one, name), getattr(other, name)), name


def test_streams_are_independent() -> None:
    assert stream(1, "t").random() != stream(1, "noise").random()


def test_ctf_carries_the_microscope() -> None:
    settings = config(voltage_kv=200.0, spherical_aberration_mm=1.2, amplitude_contrast=0.07, images=3)
    truth = sample_truth(settings, coordinates=1)
    ctf = truth.ctf(settings)
    np.testing.assert_allclose(ctf.defocus_u_angstrom, truth.defocus[:, 0], rtol=1e-6)
    np.testing.assert_allclose(ctf.defocus_v_angstrom, truth.defocus[:, 1], rtol=1e-6)
    np.testing.assert_allclose(ctf.defocus_angle_degrees, truth.defocus[:, 2], rtol=1e-6)
    assert ctf.voltage_kv.tolist() == [200.0] * 3
    np.testing.assert_allclose(ctf.spherical_aberration_mm, 1.2)
    np.testing.assert_allclose(ctf.amplitude_contrast, 0.07)


def test_coordinates_are_independent_and_states_are_the_nearest_cells_of_a_grid() -> None:
    truth = sample_truth(config(states=4, images=4000), coordinates=2)
    assert truth.coordinates.shape == (4000, 2)
    # Standard error of a correlation of nothing 0.016.
    assert abs(np.corrcoef(truth.coordinates.T)[0, 1]) < 0.06
    first = [[0.125, 0.125], [0.125, 0.375], [0.125, 0.625], [0.125, 0.875], [0.375, 0.125]]
    np.testing.assert_array_equal(truth.state_coordinates[:5], first)
    apart = np.linalg.norm(truth.coordinates[:, None] - truth.state_coordinates, axis=2)
    np.testing.assert_array_equal(truth.state, apart.argmin(axis=1))
    np.testing.assert_array_equal(truth.t, sample_truth(config(images=4000), coordinates=1).t)
    discrete = sample_truth(config(states=4, motion="discrete"), coordinates=2)
    np.testing.assert_array_equal(discrete.coordinates, discrete.state_coordinates[discrete.state])


def test_compositions_are_drawn_by_their_weights_and_change_nothing_else() -> None:
    parts = [{"weight": 3}, {"weight": 1, "without": "A:1-2"}]
    truth, plain = sample_truth(config(compositions=parts), coordinates=1), sample_truth(config(), coordinates=1)
    # Standard error 0.01.
    assert truth.composition.mean() == pytest.approx(0.25, abs=0.04)
    np.testing.assert_array_equal(truth.state, 10 * truth.composition + plain.state)
    np.testing.assert_array_equal(truth.state_composition, np.repeat([0, 1], 10))
    np.testing.assert_allclose(truth.state_t, np.tile(plain.state_t, 2))
    for name in ("t", "rotations", "origins_angstrom", "defocus"):
        np.testing.assert_array_equal(getattr(truth, name), getattr(plain, name))
    still = sample_truth(config(compositions=parts), coordinates=0)
    np.testing.assert_array_equal(still.state, still.composition)
    assert len(still.state_coordinates) == 2


def test_more_states_than_can_be_kept_are_refused() -> None:
    with pytest.raises(InputError, match="10 states for each of 4 coordinates are 10000 volumes"):
        sample_truth(config(), coordinates=4)


def test_only_what_there_is_several_of_is_written() -> None:
    one, two, none = (np.ones((2, coordinates), dtype=bool) for coordinates in (1, 2, 0))
    plain = set(sample_truth(config(), coordinates=1).arrays(one[:1]))
    assert not plain & {"coordinates", "state_coordinates", "composition", "state_composition", "composition_moves"}
    assert set(sample_truth(config(), coordinates=2).arrays(two[:1])) - plain == {"coordinates", "state_coordinates"}
    parts = [{"weight": 1}, {"weight": 1}]
    moving = set(sample_truth(config(compositions=parts), coordinates=1).arrays(one))
    still = set(sample_truth(config(compositions=parts), coordinates=0).arrays(none))
    assert moving - plain == {"composition", "state_composition", "composition_moves"}
    assert still - plain == {"composition", "state_composition"}
