"""What a run says of itself while it goes on: status.json, the metrics log, and Ray's own metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from tlpo_ray.flow.exchange import Status
from tlpo_ray.flow.metrics import Values
from tlpo_ray.run.components import Parts
from tlpo_ray.run.counters import Pace, Tally
from tlpo_ray.run.folder import RunFolder

TELL_S = 1.0
PLACES = ("waiting", "leased", "queued", "clean", "confused", "uninformative", "stale")
"""Where a prompt can be, or how it ended; `prompts_skipped` has the rest."""


class Teller:
    """Knows the parts and the tally of a run; is told how the exchange stands.

    Args:
        parts: of the run.
        folder: where it is written.
        tally: what the loop counts.
    """

    def __init__(self, parts: Parts, folder: RunFolder, tally: Tally) -> None:
        self._parts = parts
        self._folder = folder
        self._tally = tally
        self._began = self._recorded = time.monotonic()
        self._told = float("-inf")
        self._before = (tally.tokens_generated, tally.clean, tally.tokens_clean)
        """At the last update: tokens sampled, clean answers and their tokens."""
        self._tokens, self._prompts = Pace(), Pace()
        self.learner_restarts = 0
        self.sync_bytes = 0

    @property
    def seconds(self) -> float:
        """Since the run, or this life of it, began."""
        return time.monotonic() - self._began

    def look(self, status: Status, *, last: bool = False) -> None:
        """How things are now; told once a second, and when the run is over (`last`)."""
        now = time.monotonic()
        if now - self._told < TELL_S and not last:
            return
        self._told = now
        accounting, tally = status.accounting, self._tally
        tokens_rate = self._tokens.note(tally.tokens_generated)
        prompts_rate = self._prompts.note(accounting.settled)
        left = accounting.total - accounting.settled
        live: dict[str, float | Mapping[str, float]] = {
            "confusion_rate": tally.confusion_rates,
            "tokens_rate": tokens_rate,
            "prompts_rate": prompts_rate,
            **({"eta": left / prompts_rate} if prompts_rate else {}),
            "prompts": {name: getattr(accounting, name) for name in PLACES},
            "prompts_skipped": dict(accounting.skipped),
            "queue_oldest": status.queue_oldest_s,
            "actors": self._parts.fleet.states,
        }
        flow = self._flow(status)
        self._parts.board.show(flow | live)
        self._folder.outside.tell(
            {"seconds": round(self.seconds, 1), "prompts_total": accounting.total, **_rounded(flow | live)}
        )

    def record(self, version: int, status: Status, report: Any) -> None:
        """An update was made; `report` is the learner's."""
        tally, now = self._tally, time.monotonic()
        tokens, clean, tokens_clean = self._before
        values: dict[str, float] = {
            **self._flow(status),
            "tokens_per_second": (tally.tokens_generated - tokens) / max(1e-9, now - self._recorded),
            "clean_length": (tally.tokens_clean - tokens_clean) / max(1, tally.clean - clean),
            "kv_use": tally.kv_use,
            "sync_bytes": self.sync_bytes,
            "sync_time": self._parts.fleet.sync_s,
            "rollout_busy": self._parts.fleet.busy,
            **{f"seconds_{name}": value for name, value in tally.seconds.items()},
            **report.metrics(),
        }
        self._recorded, self._before = now, (tally.tokens_generated, tally.clean, tally.tokens_clean)
        tally.kv_use = 0.0
        self._folder.metrics.write(version, values)
        self._parts.board.show(values)

    def troubles(self) -> dict[str, Any]:
        """Restarts, and the largest canary difference, over all lives of the run."""
        parts, earlier = self._parts, self._tally.earlier
        now = {
            "restarts": parts.fleet.restarts,
            "learner_restarts": self.learner_restarts,
            "exchange_restarts": parts.exchange.restarts,
        }
        found: dict[str, Any] = {name: count + int(earlier.get(name, 0)) for name, count in now.items()}
        return {**found, "canary": max(parts.fleet.canary, earlier.get("canary", 0.0))}

    def counted(self) -> dict[str, Any]:
        """The tally, for another life of the run to go on with."""
        return {**self._tally.as_json(), "earlier": self.troubles()}

    def _flow(self, status: Status) -> dict[str, float]:
        """What is told at every look and kept with every update."""
        tally, accounting, parts = self._tally, status.accounting, self._parts
        return {
            "progress": status.progress,
            "prompts_done": accounting.settled,
            "rpr_so_far": tally.rpr,
            "rpr_recent": 1 - status.confusion_rate,
            "groups_learned": accounting.confused,
            "groups_uninformative": accounting.uninformative,
            "groups_stale": accounting.stale,
            "prompts_rerolled": status.rerolled,
            "queue_depth": status.queue_depth,
            "tokens_generated": tally.tokens_generated,
            "tokens_discarded": tally.tokens_discarded,
            "policy_version": parts.learner.version,
            **self.troubles(),
            "rollout_actors": parts.fleet.size,
        }


def _rounded(values: Values) -> dict[str, Any]:
    """For people."""
    return {
        name: round(value, 4)
        if isinstance(value, int | float)
        else {label: round(one, 4) for label, one in value.items()}
        for name, value in values.items()
    }
