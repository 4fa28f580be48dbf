"""STAR files as different programs and people write them: the same five particles each time."""

import numpy as np
import pytest

from cryoformer.errors import InputError
from cryoformer.formats import load_particles

WARP = """data_

loop_
_rlnVoltage #1
_rlnSphericalAberration #2
_rlnAmplitudeContrast #3
_rlnPhaseShift #4
_rlnDefocusU #5
_rlnDefocusV #6
_rlnDefocusAngle #7
_rlnMagnification #8
_rlnDetectorPixelSize #9
_rlnCoordinateX #10
_rlnCoordinateY #11
_rlnAutopickFigureOfMerit #12
_rlnMicrographName #13
_rlnImageName #14
_rlnAngleRot #15
_rlnAngleTilt #16
_rlnAnglePsi #17
_rlnOriginX #18
_rlnOriginY #19
300.0\t2.7\t0.07\t0.0\t15000.0\t14900.0\t12.5\t10000.0\t1.5\t2051.2\t313.9\t0.97\ta.mrc\t0000001@first.mrcs\t1\t2\t3\t1\t-2
300.0\t2.7\t0.07\t0.0\t15100.0\t14800.0\t12.5\t10000.0\t1.5\t1000.0\t120.0\t0.91\ta.mrc\t0000003@first.mrcs\t4\t5\t6\t0\t0.5
"""

M_EXPORT = """
# version 50001

data_general

_rlnTomoSubTomosAre2DStacks  0


data_optics

_rlnOpticsGroup 1
_rlnOpticsGroupName 'from M'
_rlnSphericalAberration 2.700000
_rlnVoltage 300.000000
_rlnImagePixelSize 1.5
_rlnImageSize 8
_rlnImageDimensionality 2
_rlnAmplitudeContrast 0.07
_rlnCtfDataAreCtfPremultiplied 1
_rlnOddZernike [0,0.1,-2.5]


data_particles

loop_
_rlnCoordinateX #1
_rlnImageName #2
_rlnDefocusU #3
_rlnDefocusV #4
_rlnDefocusAngle #5
_rlnAngleRot #6
_rlnAngleTilt #7
_rlnAnglePsi #8
_rlnOriginXAngst #9
_rlnOriginYAngst #10
_rlnOpticsGroup #11
 2051.2   "0000001@first.mrcs" 15000.0 14900.0 12.5 1 2 3 1.5 -3 1
# rows may be interrupted
 1000.0   '0000003@first.mrcs'\t15100.0 14800.0 12.5 4 5 6 0 0.75 1   # as may be lines

"""


def write(dataset, text, **options):
    dataset.write_stacks()
    dataset.path.write_bytes(text.encode(**options))
    return load_particles(dataset.path)


def assert_two_particles(particles, dataset):
    images = particles.images(np.array([0, 1]))
    np.testing.assert_array_equal(images, dataset.stacks["first.mrcs"][[0, 2]])
    assert particles.pixel_sizes_angstrom.tolist() == [1.5, 1.5]
    np.testing.assert_allclose(particles.shifts_angstrom, [[-1.5, 3], [0, -0.75]])
    np.testing.assert_allclose(particles.ctf.amplitude_contrast, [0.07, 0.07], rtol=1e-6)
    assert particles.ctf.defocus_v_angstrom.tolist() == [14900.0, 14800.0]


def test_warp(dataset):
    particles = write(dataset, WARP)
    assert_two_particles(particles, dataset)
    assert not particles.premultiplied.any()


def test_m(dataset):
    particles = write(dataset, M_EXPORT)
    assert_two_particles(particles, dataset)
    assert particles.premultiplied.all()


@pytest.mark.parametrize("text", [WARP, M_EXPORT])
@pytest.mark.parametrize(
    "bent",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: "\ufeff" + text,
        lambda text: text.rstrip(),
        lambda text: text.replace("\n_", "\n  _").replace("loop_", "  loop_  "),
        lambda text: text.replace('"000', '"  000').replace("mrcs'", "mrcs  '").replace("\t", " \t  "),
        lambda text: text.replace("\n\n", "\n"),
        lambda text: text + "\ndata_micrographs\n\nloop_\n_rlnMicrographName #1\ndata_set/a.mrc\nb.mrc\n",
    ],
    ids=["crlf", "cr", "bom", "no end", "indented", "padded", "dense", "more tables"],
)
def test_however_it_is_laid_out(dataset, text, bent):
    assert_two_particles(write(dataset, bent(text)), dataset)


def test_the_pixel_size_of_older_exports(dataset):
    text = WARP.replace("_rlnDetectorPixelSize #9", "_rlnPixelSize #9").replace("_rlnMagnification", "_rlnSomething")
    assert_two_particles(write(dataset, text), dataset)


def test_numbers_keep_apart_from_names(dataset):
    """A micrograph called 0012 or 1e5, and apostrophes, are text."""
    text = WARP.replace("\ta.mrc", "\t5'_end.mrc")
    assert_two_particles(write(dataset, text), dataset)


def test_hash_inside_a_name_is_no_comment(dataset):
    (dataset.folder / "a#b").mkdir()
    dataset.stacks = {"a#b/first.mrcs": dataset.stacks["first.mrcs"]}
    particles = write(dataset, WARP.replace("@first", "@a#b/first"))
    np.testing.assert_array_equal(particles.images(np.array([1])), dataset.stacks["a#b/first.mrcs"][[2]])


def test_the_file_is_read_anew_after_an_error(dataset):
    with pytest.raises(InputError):
        write(dataset, WARP.replace("_rlnAnglePsi #17\n", ""))
    assert_two_particles(write(dataset, WARP), dataset)


def test_a_column_twice(dataset):
    with pytest.raises(InputError, match="the column rlnOriginX twice"):
        write(dataset, WARP.replace("_rlnOriginY", "_rlnOriginX"))


@pytest.mark.parametrize("column", ["rlnTomoVisibleFrames", "rlnTomoName"])
def test_tilt_series_particles_are_refused(dataset, column):
    with pytest.raises(InputError, match="tilt series"):
        write(dataset, M_EXPORT.replace("rlnCoordinateX", column))
