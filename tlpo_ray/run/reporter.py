"""Reports an active run: `status.json`, the metrics log, and Ray's metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tlpo_ray.flow.exchange import Status
from tlpo_ray.flow.metrics import Values
from tlpo_ray.run.components import Components
from tlpo_ray.run.counters import Incidents, RateMeter, RunCounters
from tlpo_ray.run.folder import RunFolder

if TYPE_CHECKING:
    from learner.report import UpdateReport

REPORT_INTERVAL_S = 1.0
PROMPT_STATES = ("waiting", "leased", "queued", "clean", "truncated", "confused", "uninformative", "stale")
"""States and outcomes of a prompt that `prompts` counts; `prompts_skipped` counts the rest."""


class RunReporter:
    """Turns the state of components and counters into metrics.

    Args:
        components: The run's components.
        folder: Folder that the metrics log and the status are written to.
        counters: What the loop counts.
    """

    def __init__(self, components: Components, folder: RunFolder, counters: RunCounters) -> None:
        self._components = components
        self._folder = folder
        self._counters = counters
        self._began = self._recorded = time.monotonic()
        self._reported = float("-inf")
        self._at_last_update = counters.rollouts
        self._tokens, self._prompts = RateMeter(), RateMeter()
        self._version = components.learner.version
        """Policy version of the last update; a learner that was restarted begins at 0."""
        self.sync_bytes = 0
        """Bytes of the last weight update."""

    @property
    def seconds(self) -> float:
        """Seconds since the run was started or resumed."""
        return time.monotonic() - self._began

    @property
    def slow(self) -> dict[str, str]:
        """What processes take longer for than its deadline, making progress, by their names."""
        return {**self._components.fleet.slow, **self._components.learner.slow}

    def update(self, status: Status, *, final: bool = False) -> None:
        """Report the current state, at most once per second; `final` reports it in any case."""
        now = time.monotonic()
        if now - self._reported < REPORT_INTERVAL_S and not final:
            return
        self._reported = now
        accounting = status.accounting
        tokens_rate = self._tokens.update(self._counters.rollouts.tokens_generated)
        prompts_rate = self._prompts.update(accounting.settled)
        left = accounting.total - accounting.settled
        live: dict[str, float | Mapping[str, float]] = {
            "confusion_rate": self._counters.rollouts.confusion_rates,
            "tokens_rate": tokens_rate,
            "prompts_rate": prompts_rate,
            **({"eta": left / prompts_rate} if prompts_rate else {}),
            "prompts": {name: getattr(accounting, name) for name in PROMPT_STATES},
            "prompts_skipped": dict(accounting.skipped),
            "queue_oldest": status.queue_oldest_s,
            "actors": self._components.fleet.states,
        }
        flow = self._flow_metrics(status)
        self._components.on_metrics(flow | live)
        self._folder.control.write_status(
            {
                "seconds": round(self.seconds, 1),
                "prompts_total": accounting.total,
                "slow": self.slow,
                **_rounded(flow | live),
            }
        )

    def record(self, version: int, status: Status, report: UpdateReport) -> None:
        """Write the metrics of an update, and of the rollouts since the one before."""
        self._version = version
        rollouts, before, now = self._counters.rollouts, self._at_last_update, time.monotonic()
        tokens = rollouts.tokens_generated - before.tokens_generated
        clean, tokens_clean = rollouts.clean - before.clean, rollouts.tokens_clean - before.tokens_clean
        values: dict[str, float] = {
            **self._flow_metrics(status),
            "tokens_per_second": tokens / max(1e-9, now - self._recorded),
            "clean_length": tokens_clean / max(1, clean),
            "kv_cache_usage": rollouts.kv_cache_usage,
            "sync_bytes": self.sync_bytes,
            "sync_time": self._components.fleet.sync_s,
            "rollout_utilization": self._components.fleet.utilization,
            **{f"seconds_{name}": value for name, value in self._counters.seconds.items()},
            **report.metrics(),
        }
        self._counters.rollouts = rollouts.with_kv_cache_usage(0.0)
        self._recorded, self._at_last_update = now, self._counters.rollouts
        self._folder.metrics.write(version, values)
        self._components.on_metrics(values)

    def incidents(self) -> Incidents:
        """Return restarts and the largest canary difference since the run first began."""
        components = self._components
        return self._counters.earlier + Incidents(
            actor_restarts=components.fleet.num_restarts,
            learner_restarts=components.learner.restart_budget.spent,
            exchange_restarts=components.exchange.num_restarts,
            canary=components.fleet.canary,
        )

    def _flow_metrics(self, status: Status) -> dict[str, float]:
        """Return what is reported every second and kept with every update."""
        rollouts, accounting, incidents = self._counters.rollouts, status.accounting, self.incidents()
        return {
            "progress": status.progress,
            "prompts_done": accounting.settled,
            "rpr_so_far": rollouts.rpr,
            "rpr_recent": 1 - status.confusion_rate,
            "groups_learned": accounting.confused,
            "groups_uninformative": accounting.uninformative,
            "groups_stale": accounting.stale,
            "prompts_rerolled": status.rerolled,
            "queue_depth": status.queue_depth,
            "tokens_generated": rollouts.tokens_generated,
            "tokens_discarded": rollouts.tokens_discarded,
            "policy_version": max(self._version, self._components.learner.version),
            "actor_restarts": incidents.actor_restarts,
            "learner_restarts": incidents.learner_restarts,
            "exchange_restarts": incidents.exchange_restarts,
            "canary": incidents.canary,
            "rollout_actors": self._components.fleet.size,
        }


def _rounded(values: Values) -> dict[str, Any]:
    """Return values rounded for people."""
    return {
        name: round(value, 4)
        if isinstance(value, int | float)
        else {label: round(labelled, 4) for label, labelled in value.items()}
        for name, value in values.items()
    }
