"""Shared by all tests: array shapes checked at run time, hypothesis settings, optional outside data."""

from jaxtyping import install_import_hook

# Before anything of the package is imported: every annotated signature is checked in every test.
install_import_hook("cryoformer", "beartype.beartype")

import os  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from star_dataset import dataset  # noqa: E402, F401 (a fixture for all)
from toy_images import moving, particle_file, small_run  # noqa: E402, F401 (fixtures for all)

# No deadline: the first call of a torch operation is slow. Derandomised: a red run can be repeated.
settings.register_profile("cryoformer", deadline=None, max_examples=20, derandomize=True, database=None)
settings.load_profile("cryoformer")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the outside data sets (spike64, RELION projections, real metadata), which the project does not ship."""
    folder = Path(os.environ.get("CRYOFORMER_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"outside data not found at {folder}; set CRYOFORMER_SHARED_DATA to the folder that holds it")
    # As the program names files: through links.
    return folder.resolve()
