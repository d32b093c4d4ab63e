"""Declared grids of runs that check the paper's claims: one plan, many trials, one file of results."""
