"""Every metric's name, unit and meaning, and the log of those that are kept: JSON lines and TensorBoard events."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tlpo_ray.flow.files import replacing, written

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
        help="by how much π_old was repaired (learner.repair_staleness): mean |Δ log-probability|", unit="nats"
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


def truncate_metrics(file: Path, step: int) -> None:
    """Drop lines after `step`, and those that are cut or damaged, so that a run can go on there.

    Raises:
        ResourceError: there is no room left to write to.
    """
    if not file.exists():
        return
    with written(f"metrics to {file}"), replacing(file) as partial:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [line for line in lines if 0 < _step_of(line) <= step]
        partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _step_of(line: str) -> int:
    """The update that a line of metrics is of; 0 if it is damaged."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0
    return step if type(step) is int else 0


class MetricsLog:
    """Writes one line an update to `metrics.jsonl` and the same scalars to TensorBoard.

    Raises:
        ResourceError: there is no room left to write to.
        KeyError: a metric without an entry in `METRICS`.
    """

    def __init__(self, file: Path, tensorboard: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.followers: list[Callable[[int, Mapping[str, float]], None]] = []
        """Who else is told of each update."""
        with written(f"metrics to {file}"):
            self._lines = file.open("a", encoding="utf-8")
        with written(f"metrics to {tensorboard}"):
            self._events = EventFileWriter(str(tensorboard))
        self._tensorboard = tensorboard

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One update's metrics."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        unknown = [name for name in values if name not in METRICS or not METRICS[name].kept]
        if unknown:
            raise KeyError(f"metrics that flow/metrics.py does not keep: {sorted(unknown)}")
        now = time.time()
        with written(f"metrics to {self._lines.name}"):
            self._lines.write(json.dumps({"step": step, "time": round(now, 3)} | dict(values)) + "\n")
            self._lines.flush()
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        with written(f"metrics to {self._tensorboard}"):  # what a thread of its own could not write is told here
            self._events.add_event(Event(wall_time=now, step=step, summary=summary))
        for follow in self.followers:
            follow(step, values)

    def close(self) -> None:
        """Flush and close both files.

        Raises:
            ResourceError: there is no room left to write to.
        """
        with written(f"metrics to {self._lines.name}"):
            self._lines.close()
        with written(f"metrics to {self._tensorboard}"):
            self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
