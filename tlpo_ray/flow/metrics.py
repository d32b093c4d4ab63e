"""Name, unit and meaning of every metric of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ASCII = str.maketrans({"π": "pi", "Σ": "sum ", "Δ": "difference of "})


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric of a run.

    Example: ``Metric(help="wall time of the last update", unit="seconds")``
    """

    help: str
    unit: str = ""
    """Unit; empty for counts and shares."""
    label: str | None = None
    """Name of the label that distinguishes several values at a time, e.g. `language`."""
    kept: bool = True
    """Whether the metric is logged with each update; otherwise it is only shown while the run is running."""

    @property
    def plain(self) -> str:
        """Meaning and unit in ASCII, as Ray requires."""
        return f"{self.help} [{self.unit}]".removesuffix(" []").translate(ASCII)


def _live(help: str, unit: str = "", label: str | None = None) -> Metric:
    return Metric(help=help, unit=unit, label=label, kept=False)


METRICS: dict[str, Metric] = {
    # Are we learning?
    "progress": Metric(help="share of the prompts that have an outcome, 0 to 1"),
    "prompts_done": Metric(help="prompts that have an outcome"),
    "rpr_so_far": Metric(help="answers without confusion / answers sampled, over the run so far (Eq. 8)"),
    "rpr_recent": Metric(help="answers without confusion / answers sampled, over the last few hundred prompts"),
    "confusion_rate": _live("answers with confusion / answers sampled, over the run so far", label="language"),
    "policy_version": Metric(help="updates made"),
    "groups_learned": Metric(help="candidate groups learned from"),
    "lr": Metric(help="learning rate of the update"),
    "loss": Metric(help="minus the objective of Eq. 7, mean over the optimizer steps of the update"),
    "surrogate": Metric(help="clipped surrogate of Eq. 4 at the last optimizer step"),
    "kl": Metric(help="KL estimate to the reference at the candidates, mean, at the last optimizer step", unit="nats"),
    "clip_fraction": Metric(help="share of candidates whose ratio was clipped, at the last optimizer step"),
    "ratio_deviation": Metric(help="largest |ratio - 1| at the last optimizer step"),
    "grad_norm": Metric(
        help="gradient norm before clipping, at the last optimizer step; not available under ZeRO stage 0"
    ),
    "eos_mass": Metric(help="π_old of end-of-text tokens within the candidate sets, mean"),
    "reward_mass": Metric(help="Σ π_old(t) over candidates with reward +1, as a share of the candidate set, mean"),
    "clean_length": Metric(help="length of an answer without confusion, mean since the last update", unit="tokens"),
    "reward": Metric(help="mean reward of the sampled answers, +1 or -1 each (GRPO)"),
    "length": Metric(help="length of a sampled answer, mean (GRPO)", unit="tokens"),
    # Is it fast?
    "tokens_generated": Metric(help="tokens sampled by the rollout actors, without lookaheads", unit="tokens"),
    "tokens_discarded": Metric(help="tokens sampled beyond the first confused character", unit="tokens"),
    "tokens_per_second": Metric(help="tokens sampled per second of wall time, since the last update", unit="tokens/s"),
    "tokens_rate": _live("tokens sampled per second of wall time, over the last minute", unit="tokens/s"),
    "prompts_rate": _live("prompts that reached an outcome per second, over the last minute", unit="prompts/s"),
    "eta": _live("time until the last prompt has an outcome, at the current rate", unit="seconds"),
    "rollout_utilization": Metric(help="share of the rollout actors' time in which they had work, over the run so far"),
    "kv_cache_usage": Metric(help="largest share of an engine's KV cache that was in use, since the last update"),
    "update_time": Metric(help="duration of the learner's last update", unit="seconds"),
    "sync_time": Metric(help="duration of the slowest rollout actor's last weight sync", unit="seconds"),
    "sync_bytes": Metric(
        help="size of this policy version's weights as sent to one rollout actor; a broadcast is not counted",
        unit="bytes",
    ),
    "seconds_collect": Metric(help="time spent waiting for candidate groups, over the run so far", unit="seconds"),
    "seconds_update": Metric(help="time spent in the learner's updates, over the run so far", unit="seconds"),
    "seconds_publish": Metric(
        help="time spent gathering weights and handing them to the fleet, over the run so far", unit="seconds"
    ),
    "seconds_export": Metric(help="time spent writing the trained model", unit="seconds"),
    # Is it healthy?
    "prompts": _live("prompts by place: waiting, leased, queued, or their outcome", label="place"),
    "prompts_skipped": _live("prompts that were not rolled out", label="reason"),
    "groups_uninformative": Metric(help="candidate groups dropped because all rewards were equal"),
    "groups_stale": Metric(help="candidate groups dropped because they were too old"),
    "prompts_rerolled": Metric(help="prompts rolled out again because an update was full"),
    "queue_depth": Metric(help="candidate groups waiting for the learner"),
    "queue_oldest": _live("how long the oldest queued candidate group has waited for the learner", unit="seconds"),
    "policy_lag": Metric(help="policy versions between sampling and learning, mean over the update's groups"),
    "old_logprob_shift": Metric(
        help="change of π_old when recomputed (learner.recompute_old_logprobs): mean |Δ log-probability|", unit="nats"
    ),
    "canary": Metric(
        help="largest |Δ log-probability| between learner and rollout actors after a sync so far", unit="nats"
    ),
    "rollout_actors": Metric(help="rollout actors that exist, without dead ones"),
    "actors": _live("rollout actors by state", label="state"),
    "actor_restarts": Metric(help="rollout actors replaced so far"),
    "learner_restarts": Metric(help="restarts of the learner group so far"),
    "exchange_restarts": Metric(help="restarts of the exchange so far"),
}
"""Every metric by name. For an active run Ray's metrics, and with them Prometheus, show them as `tlpo_NAME`."""

RENAMED_METRICS: dict[str, str] = {
    "kv_use": "kv_cache_usage",
    "rollout_busy": "rollout_utilization",
    "version_lag": "policy_lag",
    "repaired": "old_logprob_shift",
    "restarts": "actor_restarts",
}
"""Old name → name of today, for logs and status files that were written before the metrics were renamed."""

Values = Mapping[str, float | Mapping[str, float]]
"""Values by metric name; a metric with a label has one value per label."""
