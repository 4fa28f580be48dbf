"""What `benchmarks/kernels.py` measures: kernels with models of their work, and the machine's own rates."""
