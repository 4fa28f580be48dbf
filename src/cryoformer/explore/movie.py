"""Movies of frames there and back: GIF always, MP4 where imageio-ffmpeg is installed."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cryoformer.files import atomic_path

LARGEST_GIF = 2_000_000
FRAME_MILLISECONDS = 140
MP4_FRAME_RATE = 24
MP4_REPEATS = 3
"""An MP4 of few frames is over before it is seen; a GIF repeats by itself."""


def write_gif(frames: Sequence[UInt8[np.ndarray, "h w 3"]], path: Path, largest_bytes: int = LARGEST_GIF) -> Path:
    """A GIF that goes there and back for ever; smaller pictures until it has at most ``largest_bytes``."""
    from PIL import Image

    pictures = [Image.fromarray(frame) for frame in there_and_back(frames)]
    with atomic_path(path) as temporary:
        while True:
            # Few colours without dithering compress well, and shading needs no more.
            few = [picture.quantize(96, dither=Image.Dither.NONE) for picture in pictures]
            timing = {"duration": FRAME_MILLISECONDS, "loop": 0}
            few[0].save(temporary, "GIF", save_all=True, append_images=few[1:], **timing)
            if temporary.stat().st_size <= largest_bytes or pictures[0].height < 40:
                return path
            smaller = (int(0.8 * pictures[0].width), int(0.8 * pictures[0].height))
            pictures = [picture.resize(smaller, Image.Resampling.LANCZOS) for picture in pictures]


def write_mp4(frames: Sequence[UInt8[np.ndarray, "h w 3"]], path: Path) -> Path | None:
    """An MP4 (H.264) that goes there and back three times; None, and no file, without imageio-ffmpeg."""
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        return None
    import imageio_ffmpeg

    height, width = (2 * (size // 2) for size in frames[0].shape[:2])  # H.264 wants even sizes
    each = max(round(FRAME_MILLISECONDS / 1000.0 * MP4_FRAME_RATE), 1)
    with atomic_path(path) as temporary:
        options = {"fps": MP4_FRAME_RATE, "codec": "libx264", "macro_block_size": 2, "ffmpeg_log_level": "error"}
        writer = imageio_ffmpeg.write_frames(str(temporary), (width, height), **options)
        writer.send(None)
        for frame in MP4_REPEATS * there_and_back(frames):
            for _ in range(each):
                writer.send(np.ascontiguousarray(frame[:height, :width]))
        writer.close()
    return path


def there_and_back(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The frames, then the inner ones in reverse."""
    return [*frames, *frames[-2:0:-1]]
