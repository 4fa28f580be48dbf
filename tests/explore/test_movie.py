"""Movies go there and back and stay small."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cryoformer.explore.movie import FRAME_MILLISECONDS, there_and_back, write_gif, write_mp4


def frames(count: int = 5, size: tuple[int, int] = (81, 160)) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (*size, 3)).astype(np.uint8) for _ in range(count)]


def test_there_and_back_repeats_no_end() -> None:
    numbered = [np.full(1, i) for i in range(4)]
    assert [int(frame[0]) for frame in there_and_back(numbered)] == [0, 1, 2, 3, 2, 1]
    assert len(there_and_back(numbered[:1])) == 1


def test_a_gif_has_all_frames_within_its_size(tmp_path: Path) -> None:
    path = write_gif(frames(), tmp_path / "motion.gif")
    with Image.open(path) as animation:
        assert animation.n_frames == 8
        assert animation.size == (160, 81)
        assert animation.info["duration"] == FRAME_MILLISECONDS
    smaller = write_gif(frames(), tmp_path / "small.gif", largest_bytes=path.stat().st_size // 2)
    assert smaller.stat().st_size <= path.stat().st_size // 2


def test_an_mp4_is_written_where_it_can_be(tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path = write_mp4(frames(), tmp_path / "motion.mp4")
    assert path is not None
    reader = imageio_ffmpeg.read_frames(str(path))
    facts = next(reader)
    reader.close()
    assert facts["size"] == (160, 80)
    assert facts["duration"] == pytest.approx(3 * 8 * 0.14, rel=0.15)
    assert [p.name for p in tmp_path.iterdir()] == ["motion.mp4"]


def test_without_ffmpeg_there_is_no_mp4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert write_mp4(frames(), tmp_path / "motion.mp4") is None
    assert list(tmp_path.iterdir()) == []
