"""The folder of a job is as good as its particle file."""

import logging
import shutil

import numpy as np
import pytest

from cryoformer.cli import main
from cryoformer.errors import InputError
from cryoformer.formats import load_particles
from cryoformer.formats.load import open_particle_file


@pytest.fixture
def job(dataset):
    """A RELION project with a Refine3D job, of which a test makes what files it wants."""
    dataset.write()
    folder = dataset.folder / "Refine3D" / "job012"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        (["run_it025_data.star", "run_data.star", "run_it001_data.star"], "run_data.star"),
        (["run_it009_data.star", "run_it010_data.star", "run_it010_half1_model.star"], "run_it010_data.star"),
        (
            ["run_it012_data.star", "run_ct012_it014_data.star", "run_ct012_it013_data.star"],
            "run_ct012_it014_data.star",
        ),
        (["particles.star", "micrographs.star"], "particles.star"),
    ],
)
def test_a_relion_job(dataset, job, names, meant, caplog):
    for name in names:
        shutil.copy(dataset.path, job / name) if name == meant else (job / name).write_text("data_other\n")
    with caplog.at_level(logging.INFO):
        particles = load_particles(job)
    assert (particles.source, len(particles)) == (job / meant, 5)
    assert f"{job}: its particles are those of {meant}" in caplog.text


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        (
            ["P1_J42_004_particles.cs", "P1_J42_012_particles.cs", "P1_J42_passthrough_particles.cs"],
            "P1_J42_012_particles.cs",
        ),
        (["P1_J42_particles_exported.cs"], "P1_J42_particles_exported.cs"),
        (["J42_004_particles.cs", "J42_particles.cs"], "J42_particles.cs"),
    ],
)
def test_a_cryosparc_job(tmp_path, names, meant):
    for name in names:
        (tmp_path / name).touch()
    assert open_particle_file(tmp_path).path == tmp_path / meant


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "holds no particle file (looked for run_data.star"),
        (
            ["J7_class_00_particles.cs", "J7_class_01_particles.cs"],
            "holds 2 particle files (J7_class_00_particles.cs, J7",
        ),
    ],
)
def test_a_folder_that_does_not_say(tmp_path, names, said):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(InputError) as caught:
        load_particles(tmp_path)
    assert said in str(caught.value)


def test_commands_take_it(dataset, job, capsys):
    shutil.copy(dataset.path, job / "run_data.star")
    assert main(["select", str(job), "--half", "1", "--out", str(job / "half.star")]) == 0
    half = load_particles(job / "half.star")
    np.testing.assert_array_equal(half.half_set, 1)
    assert main(["downsample", str(job), "--box", "4", "--out", str(job / "small")]) == 0
    assert main(["convert", str(job), str(job / "copy.star")]) == 0
    capsys.readouterr()
    assert main(["select", str(job), "--half", "1", "--out", str(job / "run_data.star")]) == 2
    assert "this is the file that the particles come from" in capsys.readouterr().err
