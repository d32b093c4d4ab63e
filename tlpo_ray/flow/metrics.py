"""Every metric's name, unit and meaning, and the log of those that are kept: JSON lines and TensorBoard events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SPELT = str.maketrans({"π": "pi", "Σ": "sum ", "Δ": "difference of "})


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One figure of a run."""

    help: str
    unit: str = ""
    """Empty for counts and shares."""
    label: str | None = None
    """What a figure that has several values at a time is told apart by, e.g. `language`."""
    kept: bool = True
    """Whether it is written with each update; else it is only shown while the run goes on."""

    @property
    def plain(self) -> str:
        """Meaning and unit in ASCII, for Ray."""
        return f"{self.help} [{self.unit}]".removesuffix(" []").translate(SPELT)


def _live(help: str, unit: str = "", label: str | None = None) -> Metric:
    return Metric(help=help, unit=unit, label=label, kept=False)


METRICS: dict[str, Metric] = {
    # Are we learning?
    "progress": Metric(help="share of the prompts that have their outcome, 0 to 1"),
    "prompts_done": Metric(help="prompts that have their outcome"),
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
    "grad_norm": Metric(help="gradient norm before clipping, at the last optimizer step; not told under ZeRO-0"),
    "eos_mass": Metric(help="π_old of end-of-text tokens within the candidate sets, mean"),
    "reward_mass": Metric(help="Σ π_old(t) over candidates with reward +1, as a share of the candidate set, mean"),
    "clean_length": Metric(help="an answer without confusion, mean since the last update", unit="tokens"),
    "reward": Metric(help="mean reward of the sampled answers, +1 or -1 each (GRPO)"),
    "length": Metric(help="a sampled answer, mean (GRPO)", unit="tokens"),
    # Is it fast?
    "tokens_generated": Metric(help="sampled by the rollout actors, lookaheads left out", unit="tokens"),
    "tokens_discarded": Metric(help="sampled beyond the first confused character", unit="tokens"),
    "tokens_per_second": Metric(help="sampled tokens a second of wall time, since the last update", unit="tokens/s"),
    "tokens_rate": _live("sampled tokens a second of wall time, over the last minute", unit="tokens/s"),
    "prompts_rate": _live("prompts that got their outcome, a second, over the last minute", unit="prompts/s"),
    "eta": _live("until the last prompt has its outcome, at that rate", unit="seconds"),
    "rollout_busy": Metric(help="share of the rollout actors' time that they had work, over the run so far"),
    "kv_use": Metric(help="largest share of an engine's KV cache that was in use, since the last update"),
    "update_time": Metric(help="the learner's last update", unit="seconds"),
    "sync_time": Metric(help="the slowest rollout actor's last load of a policy version", unit="seconds"),
    "sync_bytes": Metric(
        help="weights of this policy version on their way to one rollout actor; a broadcast does not count",
        unit="bytes",
    ),
    "seconds_collect": Metric(help="waiting for candidate groups, over the run so far", unit="seconds"),
    "seconds_update": Metric(help="the learner's updates, over the run so far", unit="seconds"),
    "seconds_publish": Metric(help="gathering weights and handing them out, over the run so far", unit="seconds"),
    "seconds_export": Metric(help="writing the trained model", unit="seconds"),
    # Is it healthy?
    "prompts": _live("prompts by where they are: waiting, leased, queued, or their outcome", label="place"),
    "prompts_skipped": _live("prompts that were not rolled out", label="reason"),
    "groups_uninformative": Metric(help="candidate groups dropped because all rewards were equal"),
    "groups_stale": Metric(help="candidate groups dropped because they were too old"),
    "prompts_rerolled": Metric(help="prompts rolled out again because an update was full"),
    "queue_depth": Metric(help="candidate groups waiting for the learner"),
    "queue_oldest": _live("how long the candidate group that came first has waited for the learner", unit="seconds"),
    "version_lag": Metric(help="policy versions between sampling and learning, mean over the update's groups"),
    "repaired": Metric(
        help="by how much π_old was repaired (learner.recompute_old_logprobs): mean |Δ log-probability|", unit="nats"
    ),
    "canary": Metric(
        help="largest |Δ log-probability| between learner and rollout actors after a sync so far", unit="nats"
    ),
    "rollout_actors": Metric(help="rollout actors that are there, dead ones left out"),
    "actors": _live("rollout actors by what they are at", label="state"),
    "restarts": Metric(help="rollout actors replaced so far"),
    "learner_restarts": Metric(help="times that the learner group was started again"),
    "exchange_restarts": Metric(help="times that the exchange was started again"),
}
"""Every figure by name. Ray's metrics, and with them Prometheus, show those of a run that goes on as `tlpo_NAME`."""
Values = Mapping[str, float | Mapping[str, float]]
"""Figures by name; of one with a label, values by label."""
