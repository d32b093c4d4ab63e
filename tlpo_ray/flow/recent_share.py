"""The recent share of prompts that have some property: how many a window needs, and what is reported as recent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

DECAY_PROMPTS = 500
"""Number of prompts after which an observation weighs 1/e in `RecentShare`: some tens of updates early in a run, less
than one update late in it."""


@dataclass(slots=True)
class RecentShare:
    """Exponentially decayed share of the prompts that have some property, e.g. that yielded a candidate group.

    Observations are collected and enter the decayed sums together, at `fold`. So the share does not depend on the order
    in which batches were submitted, which differs from run to run.
    """

    hits: float = 0.0
    """Decayed number of prompts with the property."""
    prompts: float = 0.0
    """Decayed number of all prompts."""
    _new_hits: int = field(default=0, init=False)
    _new_prompts: int = field(default=0, init=False)

    def observe(self, hits: int, prompts: int) -> None:
        """Count a finished batch: `hits` of its `prompts` had the property."""
        self._new_hits += hits
        self._new_prompts += prompts

    def fold(self) -> None:
        """Decay the sums by all prompts observed since the last call, then add the observations."""
        decay = math.exp(-self._new_prompts / DECAY_PROMPTS)
        self.hits = self.hits * decay + self._new_hits
        self.prompts = self.prompts * decay + self._new_prompts
        self._new_hits = self._new_prompts = 0

    def snapshot(self) -> list[float]:
        """Return the state as JSON values, for `restored`."""
        return [self.hits, self.prompts, self._new_hits, self._new_prompts]

    @classmethod
    def restored(cls, snapshot: Sequence[float]) -> RecentShare:
        """Return the share that gave this snapshot."""
        hits, prompts, new_hits, new_prompts = snapshot
        share = cls(hits, prompts)
        share.observe(int(new_hits), int(new_prompts))
        return share

    @property
    def share(self) -> float:
        """Share so far, observations since the last `fold` included; 0 before the first one."""
        observed = self.prompts + self._new_prompts
        return (self.hits + self._new_hits) / observed if observed else 0.0

    @property
    def expected(self) -> float:
        """Hits to expect per prompt as of the last `fold`, above 0 and at most 1."""
        # Half a hit more than observed: at 0, every waiting prompt would be leased at once.
        return min(1.0, (self.hits + 0.5) / (self.prompts + 0.5))
