"""The benchmark of solvers: `python benchmarks/solvers.py`."""
