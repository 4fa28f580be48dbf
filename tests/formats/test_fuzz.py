"""Damaged files: whatever the bytes, a file either loads or is refused with one InputError.

Cases are whole data sets, right but for one file that is bent at random. They run in a process of their own, which may
use little memory and is ended, with a traceback, by a case that takes too long. A case depends on its number alone:
``python tests/particles/test_fuzz.py 1234 1`` (with a folder for the files as third argument) runs case 1234.
"""

import faulthandler
import json
import logging
import pickle
import re
import resource
import subprocess
import sys
import traceback
import warnings
from pathlib import Path

import mrcfile
import numpy as np
import pytest

SECONDS_PER_CASE = 30
EXTRA_MEMORY = 400 * 2**20
UNBENT = ("particles.star", "particles.cs", "poses.pkl", "list.txt", "rows.txt", "rows.npy")
CASES, QUICK_CASES = 4000, 80

NASTY = [
    *(
        b"nan",
        b"inf",
        b"-inf",
        b"-1",
        b"0",
        b"1e400",
        b"-1e308",
        b"99999999999999999999",
        b"1.5",
        b"0x10",
        b"1_0",
        b"True",
    ),
    *(
        b'""',
        b"''",
        b'"',
        b"'",
        b"#",
        b"@",
        b"1@",
        b"@first.mrcs",
        b"0@first.mrcs",
        b"1@/dev/null",
        b"1@..",
        b"1@first.mrcs/x",
    ),
    *(b"data_", b"data_optics", b"data_particles", b"loop_", b"_rlnImageName", b"_rlnOpticsGroup", b"_", b";", b"\x00"),
    *(b"\xff\xfe", b"\xef\xbb\xbf", "é".encode(), b"\r", b"\n\n", b"\t", b" ", b"" + b"9" * 5000, b"x" * 300),
]
INTEGERS = [0, 1, -1, 2, 3, 5, 101, 127, 2**15, 2**24, 2**31 - 1, -(2**31), 1024, 1146047817]

STAR = """
# version 30001

data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnAmplitudeContrast #3
_rlnSphericalAberration #4
_rlnVoltage #5
_rlnImagePixelSize #6
_rlnImageSize #7
_rlnImageDimensionality #8
_rlnCtfDataAreCtfPremultiplied #9
1 one 0.1 2.7 300.0 1.5 8 2 0
2 "two b" 0.07 2.0 200.0 1.52 8 2 1

data_particles

loop_
_rlnImageName #1
_rlnMicrographName #2
_rlnDefocusU #3
_rlnDefocusV #4
_rlnDefocusAngle #5
_rlnAngleRot #6
_rlnAngleTilt #7
_rlnAnglePsi #8
_rlnOriginXAngst #9
_rlnOriginYAngst #10
_rlnOpticsGroup #11
_rlnPhaseShift #12
_rlnRandomSubset #13
000001@first.mrcs a.mrc 13108.08 12845.58 -160.39 -102.3 82.3 124.7 0.01 -0.6 1 0 1
000004@first.mrcs 'b c' 12906.01 12643.51 -160.39 1 2 3 4 5 2 90 2
000002@first.mrcs a.mrc 12730.82 12468.32 -160.39 6 7 8 9 10 1 0 1
"""

OLD_STAR = """data_

loop_
_rlnImageName
_rlnVoltage
_rlnSphericalAberration
_rlnAmplitudeContrast
_rlnDefocusU
_rlnDefocusV
_rlnDefocusAngle
_rlnMagnification
_rlnDetectorPixelSize
_rlnAngleRot
_rlnAngleTilt
_rlnAnglePsi
_rlnOriginX
_rlnOriginY
1@first.mrcs 300 2.7 0.1 15000 14000 10 40000 6 1 2 3 1 2
3@first.mrcs 300 2.7 0.1 15000 14000 10 40000 6 1 2 3 1 2
"""


def write_dataset(folder: Path, generator: np.random.Generator) -> None:
    """A small data set in every format that is read."""
    folder.mkdir(parents=True, exist_ok=True)
    dtype = generator.choice(["float32", "float16", "int8", "int16", "uint16"])
    with mrcfile.new(folder / "first.mrcs", overwrite=True) as mrc:
        mrc.set_data((10 * np.random.default_rng(0).normal(size=(4, 8, 8))).clip(0).astype(dtype))
        mrc.set_image_stack()
        if generator.random() < 0.3:
            mrc.set_extended_header(np.zeros(64, dtype="V1"))
    (folder / "particles.star").write_text(STAR if generator.random() < 0.7 else OLD_STAR)
    rotations = np.tile(np.eye(3, dtype=np.float32), (4, 1, 1))
    protocol = int(generator.integers(0, 6))
    (folder / "poses.pkl").write_bytes(pickle.dumps((rotations, np.zeros((4, 2), np.float32)), protocol))
    ctf = np.tile(np.array([8, 1.5, 15000, 14000, 10, 300, 2.7, 0.1, 0], np.float32), (4, 1))
    (folder / "ctf.pkl").write_bytes(pickle.dumps(ctf, protocol))
    (folder / "list.txt").write_text("other.mrcs\n")
    # That no STAR file names: a STAR file would decide the order of its images.
    (folder / "other.mrcs").write_bytes((folder / "first.mrcs").read_bytes())
    (folder / "rows.txt").write_text("0\n2\n")
    np.save(folder / "rows.npy", np.array([0, 1]))
    (folder / "particles.cs").write_bytes(cryosparc_bytes())


def cryosparc_bytes() -> bytes:
    """As cryosparc-tools writes it, without needing it."""
    import io

    fields = [
        *(
            ("uid", "<u8"),
            ("blob/path", "S16"),
            ("blob/idx", "<u4"),
            ("blob/shape", "<u4", (2,)),
            ("blob/psize_A", "<f4"),
        ),
        *(("blob/sign", "<f4"), ("ctf/df1_A", "<f4"), ("ctf/df2_A", "<f4"), ("ctf/df_angle_rad", "<f4")),
        *(("ctf/accel_kv", "<f4"), ("ctf/cs_mm", "<f4"), ("ctf/amp_contrast", "<f4"), ("ctf/phase_shift_rad", "<f4")),
        *(("alignments3D/pose", "<f4", (3,)), ("alignments3D/shift", "<f4", (2,)), ("alignments3D/psize_A", "<f4")),
        ("alignments3D/split", "<u4"),
    ]
    table = np.zeros(3, dtype=fields)
    table["uid"], table["blob/path"], table["blob/idx"] = [5, 6, 7], b">first.mrcs", [0, 3, 1]
    table["blob/shape"], table["blob/psize_A"], table["blob/sign"] = 8, 1.5, -1
    table["ctf/df1_A"] = table["ctf/df2_A"] = 15000
    table["ctf/accel_kv"], table["ctf/cs_mm"], table["ctf/amp_contrast"] = 300, 2.7, 0.1
    table["alignments3D/psize_A"], table["alignments3D/split"] = 1.5, [0, 1, 0]
    buffer = io.BytesIO()
    np.save(buffer, table)
    return buffer.getvalue()


def nudge(content: bytes, generator: np.random.Generator) -> bytes:
    """One value changed, with everything about it left in place."""
    words = list(re.finditer(rb"[^\s]+", content))
    if b"\x00" not in content and generator.random() < 0.8:
        start, stop = words[generator.integers(0, len(words))].span()
        return content[:start] + NASTY[generator.integers(0, len(NASTY))] + content[stop:]
    values = [generator.bytes(8), b"\x00" * 8, b"\xff" * 8, np.float32([np.nan, np.inf]).tobytes()]
    values += [np.float32([3e38, -3e38]).tobytes(), np.int32([-1, 2**31 - 1]).tobytes(), b"A" * 8]
    value = values[generator.integers(0, len(values))][: generator.choice([1, 2, 4, 8])]
    # Most values stand at the end of their file; headers at its start.
    place = int(generator.integers(0, len(content)) if generator.random() < 0.8 else generator.integers(0, 1024))
    return content[:place] + value[: len(content) - place] + content[place + len(value) :]


def bend(content: bytes, generator: np.random.Generator) -> bytes:
    """One value changed, or one to three changes of any kind."""
    if generator.random() < 0.5:
        return nudge(content, generator)
    for _ in range(generator.integers(1, 4)):
        kind = generator.integers(0, 9)
        place = int(generator.integers(0, len(content) + 1))
        length = int(generator.integers(1, 1 + max(1, min(64, len(content)))))
        nasty = NASTY[generator.integers(0, len(NASTY))]
        if kind == 0:
            content = content[:place] + generator.bytes(length) + content[place + length :]
        elif kind == 1:
            content = content[:place]
        elif kind == 2:
            content = content[:place] + content[place + length :]
        elif kind == 3:
            content = content[:place] + nasty + content[place:]
        elif kind == 4:
            content = content[:place] + content[place : place + length] * 3 + content[place + length :]
        elif kind == 5:
            # One word of a text.
            words = content.split(b" ")
            words[generator.integers(0, len(words))] = nasty
            content = b" ".join(words)
        elif kind == 6:
            lines = content.split(b"\n")
            first, second = generator.integers(0, len(lines), 2)
            lines[first] = lines[second] if generator.random() < 0.5 else b""
            content = b"\n".join(lines)
        elif kind == 7:
            lines = content.split(b"\n")
            lines.insert(int(generator.integers(0, len(lines))), nasty)
            content = b"\n".join(lines)
        else:
            number = np.array(INTEGERS[generator.integers(0, len(INTEGERS))], dtype=np.int64)
            word = number.astype("<i4" if generator.random() < 0.8 else ">i4").tobytes()
            place = 4 * int(generator.integers(0, 56))
            content = content[:place] + word + content[place + 4 :]
    return content


def use(folder: Path, bent: str) -> None:
    """Everything that reads the bent file: load, look at the images, write some of it on."""
    from cryoformer.formats import load_particles
    from cryoformer.formats.choose import read_indices
    from cryoformer.formats.downsample import downsample
    from cryoformer.formats.select import write_selection
    from cryoformer.particles import check_images

    if bent.startswith("rows"):
        read_indices(folder / bent, 4)
        return
    if bent in ("poses.pkl", "ctf.pkl", "list.txt"):
        images = folder / ("list.txt" if bent == "list.txt" else "other.mrcs")
        check_images(load_particles(images, poses=folder / "poses.pkl", ctf=folder / "ctf.pkl"))
        return
    source = folder / (bent if bent != "first.mrcs" else "particles.star")
    out = folder / "out" / source.suffix
    particles = load_particles(source)
    write_selection(source, np.arange(1), out / f"chosen{source.suffix}")
    assert len(load_particles(out / f"chosen{source.suffix}")) == 1
    downsample(source, 4, out / "small")
    check_images(particles)


def run_case(number: int, folder: Path) -> str | None:
    """None, or what went wrong."""
    import shutil

    from cryoformer.errors import InputError

    shutil.rmtree(folder, ignore_errors=True)
    generator = np.random.default_rng(number)
    write_dataset(folder, generator)
    targets = ["particles.star"] * 4 + ["first.mrcs"] * 2 + ["particles.cs"] * 2
    targets += ["poses.pkl", "ctf.pkl", "poses.pkl", "list.txt", "rows.txt", "rows.npy"]
    bent = folder / targets[generator.integers(0, len(targets))]
    bent.write_bytes(bend(bent.read_bytes(), generator))
    faulthandler.dump_traceback_later(SECONDS_PER_CASE, exit=True)
    try:
        use(folder, bent.name)
    except InputError as error:
        return None if str(error).strip() else f"case {number} ({bent.name}): an InputError without a word"
    except BaseException as error:
        return f"case {number} ({bent.name}): {type(error).__name__}: {error}\n{traceback.format_exc()[-1500:]}"
    finally:
        faulthandler.cancel_dump_traceback_later()
    return None


def main(first: int, count: int, folder: Path) -> None:
    """Run cases in this process and print what went wrong as JSON."""
    logging.disable()
    warnings.simplefilter("ignore")
    # So that whatever is imported late is in memory before its size is taken.
    write_dataset(folder, np.random.default_rng(0))
    for bent in UNBENT:
        use(folder, bent)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + EXTRA_MEMORY, used + EXTRA_MEMORY))
    wrong = [found for number in range(first, first + count) if (found := run_case(number, folder))]
    print(json.dumps(wrong))


def found_wrong(first: int, count: int, folder: Path) -> list[str]:
    """What went wrong in these cases, run in another process."""
    arguments = [sys.executable, __file__, str(first), str(count), str(folder)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"the process ended with {done.returncode}:\n{done.stderr[-4000:]}"
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory by way of Linux")
def test_some_damaged_files(tmp_path):
    assert found_wrong(0, QUICK_CASES, tmp_path / "case") == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="limits memory by way of Linux")
@pytest.mark.parametrize("part", range(4))
def test_damaged_files(tmp_path, part):
    assert found_wrong(QUICK_CASES + part * CASES // 4, CASES // 4, tmp_path / "case") == []


def test_the_unbent_data_set_loads(tmp_path):
    """Otherwise the cases would show nothing."""
    write_dataset(tmp_path / "case", np.random.default_rng(0))
    for bent in UNBENT:
        use(tmp_path / "case", bent)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
