"""`make bench`: speed as ratios against the alternative, measured in the same run."""
