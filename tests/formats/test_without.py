"""Particles without poses, images without CTF, optics that are not modelled: taken for what they are, in words."""

import mrcfile
import numpy as np
import pytest
import torch

from cryoformer.cli import main
from cryoformer.errors import InputError
from cryoformer.formats import load_particles
from cryoformer.formats.convert import convert
from cryoformer.formats.load import open_particle_file
from cryoformer.imaging.ctf import contrast_transfer

from .test_cryodrgn import CryodrgnDataset
from .test_posed import alignment, cryosparc_file


@pytest.fixture
def unposed(dataset, tmp_path):
    """A .cs file as Extract From Micrographs outputs it, and a STAR file as Extract writes it."""
    cryosparc_file(dataset, tmp_path)
    for name in ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst"):
        del dataset.particles[name]
    dataset.write()
    return {".cs": tmp_path / "given.cs", ".star": dataset.path}


@pytest.mark.parametrize("suffix", [".cs", ".star"])
def test_rows_are_selected_without_poses(unposed, tmp_path, suffix, capsys):
    out = tmp_path / f"some{suffix}"
    assert main(["select", str(unposed[suffix]), "--random", "2", "--out", str(out)]) == 0
    assert len(open_particle_file(out)) == 2
    assert main(["downsample", str(unposed[suffix]), "--box", "4", "--out", str(tmp_path / "small")]) == 0
    capsys.readouterr()
    with pytest.raises(InputError, match="no poses"):
        load_particles(out)


@pytest.mark.parametrize(("source", "target"), [(".cs", ".star"), (".star", ".cs"), (".star", ".star"), (".cs", ".cs")])
def test_everything_but_poses_is_converted(unposed, tmp_path, source, target):
    out = tmp_path / f"other{target}"
    convert(unposed[source], out, invert="no")
    before, after = (open_particle_file(path).read(require_poses=False) for path in (unposed[source], out))
    assert not after.posed
    np.testing.assert_allclose(after.pixel_sizes_angstrom, before.pixel_sizes_angstrom, rtol=1e-6)
    torch.testing.assert_close(after.ctf.defocus_u_angstrom, before.ctf.defocus_u_angstrom)
    np.testing.assert_array_equal(after.images(np.array([3])), before.images(np.array([3])))


def test_cryodrgns_files_are_poses(unposed, tmp_path):
    with pytest.raises(InputError, match="no poses, which cryoDRGN's files are for"):
        convert(unposed[".cs"], tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def assert_no_ctf(particles) -> None:
    transfer = contrast_transfer(particles.ctf, 8, torch.from_numpy(particles.pixel_sizes_angstrom).float())
    torch.testing.assert_close(transfer.abs(), torch.ones_like(transfer))


def test_a_star_file_without_ctf(dataset):
    for name in ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"):
        dataset.particles[f"{name}Unknown"] = dataset.particles.pop(name)
    with pytest.raises(InputError, match="give --no-ctf"):
        load_particles(dataset.write())
    assert_no_ctf(load_particles(dataset.path, no_ctf=True))


def test_a_ctf_that_was_corrected_is_not_used(dataset):
    """Whatever the columns say, be it wrong."""
    dataset.optics["rlnVoltage"] = 300000
    assert_no_ctf(load_particles(dataset.write(), no_ctf=True))


@pytest.mark.parametrize("columns", ["none", "some", "all"])
def test_a_cryosparc_file_without_ctf(dataset, tmp_path, columns):
    from cryosparc.dataset import Dataset

    cryosparc_file(dataset, tmp_path, **alignment("alignments3D"))
    given = Dataset.load(tmp_path / "given.cs")
    dropped = {"none": given.fields(), "some": ["ctf/df1_A"], "all": []}[columns]
    given.drop_fields([name for name in dropped if name.startswith("ctf/")])
    given.save(tmp_path / "given.cs")
    if columns == "none":
        with pytest.raises(InputError, match="give --no-ctf"):
            load_particles(tmp_path / "given.cs")
    assert_no_ctf(load_particles(tmp_path / "given.cs", no_ctf=True))


def test_a_stack_with_poses_alone(tmp_path):
    given = CryodrgnDataset(tmp_path)
    poses = given.write()["poses"]
    with pytest.raises(InputError, match="give both, or --no-ctf"):
        load_particles(tmp_path / "all.mrcs", poses=poses)
    particles = load_particles(tmp_path / "all.mrcs", poses=poses, no_ctf=True)
    assert_no_ctf(particles)
    np.testing.assert_allclose(particles.shifts_angstrom, -given.shifts * 8 * 1.0, rtol=1e-6)
    (tmp_path / "ctf.pkl").unlink()
    (tmp_path / "all.mrcs").rename(tmp_path / "particles.mrcs")
    assert len(load_particles(tmp_path, no_ctf=True)) == 5


def test_a_stack_whose_header_says_no_pixel_size(tmp_path):
    given = CryodrgnDataset(tmp_path)
    poses = given.write()["poses"]
    with mrcfile.open(tmp_path / "all.mrcs", mode="r+") as mrc:
        mrc.header.cella = (0, 0, 0)
    with pytest.raises(InputError, match="its header says no pixel size"):
        load_particles(tmp_path / "all.mrcs", poses=poses, no_ctf=True)


@pytest.mark.parametrize("command", ["train", "refine", "baseline", "validate", "convert"])
def test_every_command_has_the_option(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "--no-ctf" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"rlnBeamTiltX": 0.0, "rlnBeamTiltY": 0.0, "rlnMagMat00": 1.0, "rlnMagMat01": 0.0}, ""),
        ({"rlnBeamTiltX": [0.0, 0.3]}, "rlnBeamTiltX are not modelled"),
        ({"rlnMagMat00": 1.02, "rlnMagMat11": 1.0}, "rlnMagMat00 are not modelled"),
        ({"rlnOddZernike": "[0,0,0]", "rlnEvenZernike": "[0,1e-3,0]"}, "rlnEvenZernike are not modelled"),
    ],
)
def test_optics_of_relion_that_are_not_modelled(dataset, caplog, columns, said):
    for name, values in columns.items():
        dataset.optics[name] = values
    load_particles(dataset.write())
    assert ("not modelled" in caplog.text) == bool(said)
    assert said in caplog.text


@pytest.mark.parametrize(("field", "shape"), [("ctf/tilt_A", 2), ("ctf/trefoil_A", 2), ("ctf/anisomag", 4)])
def test_optics_of_cryosparc_that_are_not_modelled(dataset, tmp_path, caplog, field, shape):
    values = np.zeros((5, shape), dtype=np.float32)
    cryosparc_file(dataset, tmp_path, **alignment("alignments3D"), **{field: values})
    load_particles(tmp_path / "given.cs")
    assert "not modelled" not in caplog.text
    values[3, 1] = 200.0
    cryosparc_file(dataset, tmp_path, **alignment("alignments3D"), **{field: values})
    load_particles(tmp_path / "given.cs")
    assert f"{field} are not modelled" in caplog.text
