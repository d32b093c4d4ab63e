"""Declared grids of runs that test the paper's claims: one plan, many trials, one file of results."""
