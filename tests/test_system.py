"""Where the system says no, one line says so, before the work where it can be known."""

import errno
import os
import resource
import stat
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch

from cryoformer import memory
from cryoformer.checkpoint import load_tensors, save_tensors
from cryoformer.cli import main
from cryoformer.errors import InputError
from cryoformer.files import atomic_path, check_output, write_json, write_mrc_volume, write_npy
from cryoformer.memory import check_memory, needed_bytes
from cryoformer.particles.stack import read_stack_header

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """A folder that may not be written to, for whoever runs the tests."""
    folder = tmp_path / "locked"
    folder.mkdir()
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: False if Path(path) == folder and mode & os.W_OK else access(path, mode)
    )
    return folder


def commands(path, out) -> list[list[str]]:
    star = str(path)
    return [
        ["train", star, "--out", str(out), "--preset", "quick"],
        ["baseline", "homogeneous", star, "--out", str(out)],
        ["refine", star, "--out", str(out)],
    ]


@pytest.fixture
def no_image_is_read(monkeypatch):
    monkeypatch.setattr("cryoformer.particles.stack.read_stack", lambda *_: pytest.fail("images were read"))


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.usefixtures("no_image_is_read")
def test_a_folder_that_may_not_be_written(particle_file, locked, capsys, number):
    assert main(commands(particle_file, locked / "new" / "run")[number]) == 2
    assert f"cannot write to the folder {locked}: no permission" in capsys.readouterr().err


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.usefixtures("no_image_is_read")
def test_a_disk_that_is_nearly_full(particle_file, tmp_path, capsys, number, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(10**9, 10**9, 0))
    assert main(commands(particle_file, tmp_path / "run")[number]) == 2
    assert "the disk is full" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.usefixtures("no_image_is_read")
def test_a_box_that_the_memory_does_not_hold(particle_file, tmp_path, capsys, number, monkeypatch):
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: namedtuple("Memory", "available")(2**20))
    assert main(commands(particle_file, tmp_path / "run")[number]) == 2
    assert "a box of 24 pixels needs some 0 GiB of memory, 0 GiB are free; make the images" in capsys.readouterr().err


@pytest.mark.parametrize(("box", "gib"), [(128, 2.0), (256, 7.0)])
def test_the_estimate_is_what_was_measured(box, gib):
    assert needed_bytes(box, components=6) / 2**30 == pytest.approx(gib, rel=0.1)


def test_many_components_of_a_small_box_take_memory_too(monkeypatch):
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: namedtuple("Memory", "available")(8 * 2**30))
    check_memory(128, components=6)
    with pytest.raises(InputError, match="needs some 2"):
        check_memory(128, components=32)


def test_memory_of_a_gpu_is_not_this_one(monkeypatch):
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: namedtuple("Memory", "available")(2**20))
    check_memory(512, "cuda:0")


@pytest.mark.parametrize(("number", "count"), [(0, 1), (0, 19), (1, 1), (1, 3), (2, 2), (2, 19)])
@pytest.mark.usefixtures("no_image_is_read")
def test_too_few_particles(particle_file, tmp_path, capsys, number, count):
    text = particle_file.read_text().splitlines()
    rows = [place for place, line in enumerate(text) if "@" in line]
    few = particle_file.with_name(f"few{count}.star")
    few.write_text("\n".join([*text[: rows[0]], *text[rows[0] : rows[count]]]) + "\n")
    assert main(commands(few, tmp_path / "run")[number]) == 2
    some = "1 particle;" if count == 1 else f"{count} particles;"
    least = 4 if number == 1 else 20
    assert f"few{count}.star: has {some} {least} or more are needed for two halves" in capsys.readouterr().err


def test_rows_of_one_image_are_one(particle_file, tmp_path, capsys):
    text = particle_file.read_text().splitlines()
    first = next(place for place, line in enumerate(text) if "@" in line)
    repeated = particle_file.with_name("repeated.star")
    repeated.write_text("\n".join([*text[:first], *[text[first]] * 30, *text[first : first + 3]]) + "\n")
    assert main(commands(repeated, tmp_path / "run")[1]) == 2
    assert "has 33 particles (of 3 images); 4 or more" in capsys.readouterr().err


def test_few_that_were_chosen(particle_file, tmp_path, capsys):
    np.save(tmp_path / "rows.npy", np.arange(3))
    arguments = commands(particle_file, tmp_path / "run")[0]
    assert main([*arguments, "--ind", str(tmp_path / "rows.npy")]) == 2
    assert "has 3 particles (of those that were chosen); 20 or more" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_fills_up_while_writing(tmp_path, number):
    said = r"cannot write .*out\.npy: the (disk is full|quota|file system is read-only)"
    with pytest.raises(InputError, match=said), atomic_path(tmp_path / "out.npy"):
        raise OSError(number, os.strerror(number))
    assert not list(tmp_path.iterdir())


def test_a_write_that_ends_early(tmp_path):
    """What numpy makes of a full disk: an error without a number, as here, where files may have 4 kB."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        with pytest.raises(InputError, match=r"cannot write .*out\.npy: it ended early, at a full disk or a limit"):
            write_npy(tmp_path / "out.npy", np.zeros(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not list(tmp_path.iterdir())


def test_a_stack_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("cryoformer.particles.stack.uncompressed", refuse)
    with pytest.raises(InputError, match=r"a\.mrcs: no permission to read it"):
        read_stack_header(tmp_path / "a.mrcs")


def test_a_full_disk_under_a_checkpoint(tmp_path, monkeypatch):
    from safetensors import SafetensorError

    def full(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("cryoformer.checkpoint.save_file", full)
    with pytest.raises(InputError, match="the disk is full; make room and give the command again"):
        save_tensors(tmp_path / "a.safetensors", {}, {})


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "metrics.jsonl"), "metrics.jsonl: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "a.txt"), "a.txt: no permission"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "b"), "b: the name is too long"),
        (MemoryError(), "the memory is not enough"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"), "the memory is not enough"),
    ],
)
def test_what_the_system_says_is_one_line(dataset, tmp_path, capsys, monkeypatch, error, said):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("cryoformer.formats.convert.convert", fail)
    assert main(["convert", str(dataset.write()), str(tmp_path / "out.star")]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1


def test_errors_of_the_program_are_not_hidden(dataset, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("cannot reshape")

    monkeypatch.setattr("cryoformer.formats.convert.convert", fail)
    with pytest.raises(RuntimeError, match="cannot reshape"):
        main(["convert", str(dataset.write()), str(tmp_path / "out.star")])


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_modes_follow_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        save_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)}, {})
        write_json(tmp_path / "b.json", {})
        write_npy(tmp_path / "c.npy", np.zeros(2))
        write_mrc_volume(tmp_path / "d.mrc", np.zeros((2, 2, 2)), 1.0)
    finally:
        os.umask(before)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == dict.fromkeys(
        ["a.safetensors", "b.json", "c.npy", "d.mrc"], mode
    )


def test_a_checkpoint_that_may_not_be_read(tmp_path, monkeypatch):
    save_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)}, {})
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="no permission to read it; ask its owner"):
        load_tensors(tmp_path / "a.safetensors")


def test_a_file_in_the_way_of_a_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot make the folder .*: .*file is no folder"):
        check_output(tmp_path / "file" / "run")
    check_output(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
