"""``python -m cryoformer`` is the ``cryoformer`` command."""

import sys

from cryoformer.cli import main

if __name__ == "__main__":
    sys.exit(main())
