"""Everything about Ray that is not about reinforcement learning: connecting, placing, waiting, hangs, restarts."""
