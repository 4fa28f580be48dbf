"""Makes the toy molecule of ``assess/toy_run.py`` importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
