"""Declared grids of runs that test the paper's claims: one plan, many trials, one file of results."""

__all__ = [
    "analyses",
    "former",
    "full_size",
    "measure",
    "plan",
    "ray_shell",
    "run",
    "trial",
]
