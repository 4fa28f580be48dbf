"""Images are dealt out whole: none is lost, none is in two processes."""

import pytest
import torch

from cryoformer.communication import Processes
from cryoformer.errors import InputError
from cryoformer.images.shard import Shard


def shards(total: int, size: int) -> list[Shard]:
    return [Shard.dealt(total, Processes(rank, size)) for rank in range(size)]


@pytest.mark.parametrize(("total", "size"), [(10, 1), (10, 3), (7, 7), (101, 4)])
def test_every_image_is_in_one_process(total: int, size: int) -> None:
    dealt = shards(total, size)
    assert [row for shard in dealt for row in range(shard.start, shard.stop)] == list(range(total))
    counts = [shard.stop - shard.start for shard in dealt]
    assert max(counts) - min(counts) <= 1


def test_rows_are_found_where_they_are() -> None:
    rows = torch.tensor([9, 0, 4, 5, 3])
    found = [shard.here(rows) + shard.start for shard in shards(10, 3)]
    assert [part.tolist() for part in found] == [[0], [4, 5, 3], [9]]
    assert Shard.whole(10).here(rows) is rows


def test_drawn_rows_are_dealt_as_the_images_are() -> None:
    rows = torch.tensor([1, 2, 3, 8])
    drawn = [shard.drawn(rows) for shard in shards(10, 3)]
    assert [(shard.start, shard.stop, shard.total) for shard in drawn] == [(0, 2, 4), (2, 3, 4), (3, 4, 4)]


def test_more_processes_than_images_are_refused() -> None:
    with pytest.raises(InputError, match="start fewer"):
        Shard.dealt(3, Processes(0, 4))
