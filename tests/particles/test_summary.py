"""What ``cryoformer check`` says of a file, and that it finds what every command would."""

import re

import mrcfile
import numpy as np

from cryoformer.cli import main


def test_a_file_that_is_right(particle_file, capsys):
    assert main(["check", str(particle_file)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"300 particles in 1 stack, 24 pixels of 5 A", said)
    assert "1 group, 300 kV, 2.7 mm Cs, 0.1 amplitude contrast" in said
    low, high = map(float, re.search(r"defocus: ([\d.]+) to ([\d.]+) um", said).groups())
    assert 0.8 < low < 0.9
    assert 1.5 < high < 1.62
    assert "poses: there, with centres up to 0.0 A off" in said
    assert "half-sets: none in the file" in said
    assert said.rstrip().endswith("every image can be read")


def changed(particle_file, tmp_path, change):
    """The same file with its text changed, beside a copy of its stack."""
    path = tmp_path / "particles.star"
    path.write_text(change(particle_file.read_text()))
    (tmp_path / "particles.mrcs").write_bytes((particle_file.parent / "particles.mrcs").read_bytes())
    return path


def test_repeats_are_counted(particle_file, tmp_path, capsys):
    path = changed(
        particle_file, tmp_path, lambda text: text.replace("000002@", "000001@").replace("000003@", "000001@")
    )
    assert main(["check", str(path)]) == 0
    assert "300 particles of 298 images" in capsys.readouterr().out


def test_without_poses(particle_file, tmp_path, capsys):
    def unnamed(text):
        for name in ("AngleRot", "AngleTilt", "AnglePsi", "OriginXAngst", "OriginYAngst"):
            text = text.replace(f"_rln{name} ", f"_rlnNothing{name} ")
        return text

    assert main(["check", str(changed(particle_file, tmp_path, unnamed))]) == 0
    assert "poses: none; cryoformer abinitio finds them" in capsys.readouterr().out


def test_images_that_cannot_be_used(particle_file, tmp_path, capsys):
    path = changed(particle_file, tmp_path, str)
    with mrcfile.mmap(path.with_suffix(".mrcs"), mode="r+") as stack:
        stack.data[7] = np.nan
    assert main(["check", str(path)]) == 2
    told = capsys.readouterr()
    assert "row 8" in told.err
    assert "every image can be read" not in told.out


def test_an_option_that_cannot_be(particle_file, capsys):
    assert main(["check", str(particle_file), "--memory-gib", "-1"]) == 2
    assert "--memory-gib" in capsys.readouterr().err
