"""Any results side by side: baselines, volumes with classes or latents, and what does not belong together."""

import json
from pathlib import Path

import numpy as np
import pytest

from assess.toy_run import BOX, PARTICLES, PIXEL_SIZE, STATES, ToyRun, toy_states, write_truth
from cryoformer.assess.compare import Named, compare, markdown_table, score_results, table_of
from cryoformer.assess.results import Result
from cryoformer.assess.volume_folder import open_volume_folder, read_table, volume_number
from cryoformer.cli import main
from cryoformer.errors import InputError
from cryoformer.files import write_mrc_volume
from cryoformer.imaging.fsc import perfect_auc

CLASSES = np.arange(PARTICLES) % STATES


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return write_truth(tmp_path / "truth")


def write_classes(folder: Path, box: int = BOX, first: int = 0, name: str = "run_it025_class{:03d}.mrc") -> Path:
    """The true states as the classes of another program."""
    for index, volume in enumerate(toy_states(box=box)):
        write_mrc_volume(folder / name.format(index + first), volume, PIXEL_SIZE * BOX / box)
    return folder


def test_perfect_classes_score_the_maximum_and_their_mean_does_not(tmp_path: Path, truth: Path) -> None:
    good, mean = write_classes(tmp_path / "good"), tmp_path / "mean"
    np.save(good / "classes.npy", CLASSES)
    write_mrc_volume(mean / "map.mrc", np.mean(toy_states(), axis=0), PIXEL_SIZE)
    np.save(mean / "classes.npy", np.zeros(PARTICLES, dtype=int))
    scores = compare(truth, [Named("good", good), Named("mean", mean)], tmp_path / "out", images=20)
    row, blind = table_of(scores)[:2]
    assert row["moving AUC"] == row["moving AUC, states"] == pytest.approx(perfect_auc(BOX))
    assert row["R2"] > 0.9
    assert blind["moving AUC"] < 0.9 * row["moving AUC"]
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == scores
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 10_000
    text = markdown_table(table_of(scores)).splitlines()
    assert [line.split(" | ")[0] for line in text] == [
        "| name",
        "| ---",
        "| good",
        "| mean",
        "| noise_free_mean",
        "| mask_alone",
    ]


def test_latents_show_the_volume_that_stands_nearest(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "volumes")
    np.save(folder / "latents.npy", np.stack([CLASSES + 0.3, np.zeros(PARTICLES)], axis=1))
    np.save(folder / "volume_latents.npy", np.stack([np.arange(STATES), np.zeros(STATES)], axis=1))
    source, box, pixel_size = open_volume_folder(folder)
    assert (source.name, box, pixel_size) == ("volumes", BOX, PIXEL_SIZE)
    (volume,) = source.latent_volumes(np.array([[2.2, 0.0]]))
    np.testing.assert_array_equal(volume, toy_states()[2])
    (volume,) = source.particle_volumes(np.array([4]))
    np.testing.assert_array_equal(volume, toy_states()[4])


def test_larger_boxes_are_cropped_to_the_smallest(tmp_path: Path, truth: Path) -> None:
    small, large = write_classes(tmp_path / "small"), write_classes(tmp_path / "large", box=2 * BOX)
    for index, volume in enumerate(toy_states()):
        # The same density on a grid twice as fine, by its own band.
        transform = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(volume)))
        fine = np.zeros((2 * BOX,) * 3, dtype=complex)
        fine[(slice(BOX // 2, -BOX // 2),) * 3] = transform
        fine = np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(fine)).real)
        write_mrc_volume(large / f"run_it025_class{index:03d}.mrc", fine.astype(np.float32), PIXEL_SIZE / 2)
    for folder in (small, large):
        np.save(folder / "classes.npy", CLASSES)
    scores = compare(truth, [Named("a", small), Named("b", large)], tmp_path / "out", images=10, plot=False)
    assert scores["settings"]["box"] == BOX
    assert not (tmp_path / "out" / "comparison.png").exists()
    areas = [scores["sources"][name]["per_image"]["moving"]["auc_mean"] for name in ("a", "b")]
    assert areas[1] == pytest.approx(areas[0], abs=0.01)


def test_a_run_is_scored_under_the_name_it_is_given(tmp_path: Path, truth: Path) -> None:
    run = ToyRun(tmp_path)
    opened = Result(tmp_path, "run", run.sources, run.box, run.pixel_size_angstrom)
    scores = score_results([opened], truth, 10)
    assert list(scores["sources"]) == ["cryoformer", "noise_free_mean", "mask_alone"]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("run_it025_class003.mrc", 3),
        ("cryosparc_P1_J20_class_02_00042_volume.mrc", 2),
        ("vol_007.mrc", 7),
        ("a.mrc", 0),
    ],
)
def test_numbers_of_volumes(name: str, number: int) -> None:
    assert volume_number(Path(name)) == number


def test_classes_that_begin_at_one_may_belong_to_volumes_that_begin_at_zero(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "volumes")
    np.save(folder / "classes.npy", CLASSES + 1)
    np.testing.assert_array_equal(open_volume_folder(folder)[0].latents.argmax(axis=1), CLASSES)
    np.save(folder / "classes.npy", CLASSES + 2)
    with pytest.raises(InputError, match="there is no volume for class 5"):
        open_volume_folder(folder)


def test_relion_classes_are_brought_into_the_order_of_the_stack(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(PARTICLES)
    rows = "\n".join(f"{index + 1:06d}@particles.mrcs {CLASSES[index] + 1}" for index in order)
    star = tmp_path / "run_it025_data.star"
    star.write_text(f"data_particles\n\nloop_\n_rlnImageName #1\n_rlnClassNumber #2\n{rows}\n")
    classes, latents = read_table(star)
    assert latents is None
    np.testing.assert_array_equal(classes, CLASSES + 1)
    star.write_text(star.read_text().replace("_rlnClassNumber", "_rlnGroupNumber"))
    with pytest.raises(InputError, match="no column rlnClassNumber"):
        read_table(star)


def test_cryosparc_classes_by_posterior(tmp_path: Path) -> None:
    dtype = [("uid", "<u8"), *((f"alignments_class_{k}/class_posterior", "<f4") for k in range(3))]
    dtype += [(f"alignments_class_{k}/pose", "<f4", (3,)) for k in range(3)]
    table = np.zeros(5, dtype=dtype)
    table["uid"] = np.arange(5)
    best = np.array([0, 2, 1, 1, 2])
    for k in range(3):
        table[f"alignments_class_{k}/class_posterior"] = np.where(best == k, 0.8, 0.1)
    path = tmp_path / "classes.cs"
    with path.open("wb") as file:
        np.save(file, table)
    np.testing.assert_array_equal(read_table(path)[0], best)


def test_tables_of_text(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("image,class\n0,2\n1,0\n")
    np.testing.assert_array_equal(read_table(path)[0], [2, 0])
    path.write_text("0.5,1.5\n-1,2e-3\n")
    np.testing.assert_array_equal(read_table(path)[1], [[0.5, 1.5], [-1.0, 2e-3]])
    path.write_text("z1,z2\n0.5,1.5\n")
    np.testing.assert_array_equal(read_table(path)[1], [[0.5, 1.5]])
    path.write_text("z1,z2\n0.5,\n")
    with pytest.raises(InputError, match="expected finite numbers"):
        read_table(path)


def test_what_does_not_belong_together_is_refused(tmp_path: Path, truth: Path) -> None:
    folder = write_classes(tmp_path / "volumes")
    with pytest.raises(InputError, match="expected one table of classes or latents beside the volumes, found none"):
        compare(truth, [Named("x", folder)], tmp_path)
    np.save(folder / "classes.npy", CLASSES[:-1])
    with pytest.raises(InputError, match=f"holds {PARTICLES} particles, the run {PARTICLES - 1}"):
        compare(truth, [Named("x", folder)], tmp_path)
    with pytest.raises(InputError, match="the name x is given to two results"):
        compare(truth, [Named("x", folder), Named("x", folder)], tmp_path)
    np.save(folder / "other.npy", CLASSES)
    with pytest.raises(InputError, match=r"NAME=.*,TABLE"):
        compare(truth, [Named("x", folder)], tmp_path)
    for text in ("volumes", f"x={tmp_path / 'nothing'}", f"x={folder},nothing.npy"):
        with pytest.raises(InputError):
            Named.parse(text)


def test_the_command_prints_a_table(tmp_path: Path, truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_classes(tmp_path / "volumes", first=1)
    np.save(folder / "classes.npy", CLASSES + 1)
    np.save(folder / "others.npy", CLASSES + 1)
    arguments = ["compare", f"classes={folder},classes.npy", "--truth", str(truth), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--images", "10", "--no-plot"]) == 0
    assert "| classes | 0.458 |" in capsys.readouterr().out
    assert main([*arguments[:1], f"classes={folder}", *arguments[2:]]) == 2
