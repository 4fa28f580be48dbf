"""Whether a result could be chance: nulls of structure, motion and network, calibration, independent runs."""
