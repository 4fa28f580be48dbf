"""Parts of benchmarks/race.py: this project and cryoDRGN in turn on the same stack."""
