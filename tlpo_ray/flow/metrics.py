"""Every metric's name and meaning, and where they are written: JSON lines and TensorBoard events."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tlpo_ray.flow.files import replacing

METRICS: dict[str, str] = {
    "progress": "share of the prompts that have their outcome, 0 to 1",
    "prompts_done": "prompts that have their outcome",
    "rpr_so_far": "answers without confusion / answers sampled, over the run so far (Eq. 8)",
    "rpr_recent": "answers without confusion / answers sampled, over the last few hundred prompts",
    "groups_learned": "candidate groups learned from",
    "groups_uninformative": "candidate groups dropped because all rewards were equal",
    "groups_stale": "candidate groups dropped because they were too old",
    "prompts_rerolled": "prompts rolled out again because an update was full",
    "queue_depth": "candidate groups waiting for the learner",
    "tokens_generated": "tokens sampled by the rollout actors, lookaheads left out",
    "tokens_discarded": "tokens sampled beyond the first confused character",
    "tokens_per_second": "sampled tokens a second of wall time, since the last update",
    "clean_length": "tokens of an answer without confusion, mean since the last update",
    "policy_version": "updates made",
    "version_lag": "policy versions between sampling and learning, mean over the update's groups",
    "repaired": "by how much π_old was repaired (learner.repair_staleness): mean |Δ log-probability|, nats",
    "lr": "learning rate of the update",
    "loss": "minus the objective of Eq. 7, mean over the optimizer steps of the update",
    "reward": "mean reward of the sampled answers, +1 or -1 each (GRPO)",
    "length": "tokens of a sampled answer, mean (GRPO)",
    "surrogate": "clipped surrogate of Eq. 4 at the last optimizer step",
    "kl": "KL estimate to the reference at the candidates, mean, at the last optimizer step",
    "clip_fraction": "share of candidates whose ratio was clipped, at the last optimizer step",
    "ratio_deviation": "largest |ratio - 1| at the last optimizer step",
    "grad_norm": "gradient norm before clipping, at the last optimizer step; not told under ZeRO-0",
    "eos_mass": "π_old of end-of-text tokens within the candidate sets, mean",
    "reward_mass": "Σ π_old(t) over candidates with reward +1, as a share of the candidate set, mean",
    "canary": "largest |Δ log-probability| between learner and rollout actors after a sync so far, nats",
    "sync_bytes": "weights of this policy version on their way to one rollout actor, bytes; a broadcast does not count",
    "restarts": "rollout actors replaced so far",
    "learner_restarts": "times that the learner group was started again",
    "exchange_restarts": "times that the exchange was started again",
    "rollout_actors": "rollout actors that are there, dead ones left out",
    "rollout_busy": "share of the rollout actors' time that they had work, over the run so far",
    "seconds_collect": "waiting for candidate groups, over the run so far",
    "seconds_update": "the learner's updates, over the run so far",
    "seconds_export": "writing the trained model",
    "seconds_publish": "gathering weights and handing them out, over the run so far",
}


def truncate_metrics(file: Path, step: int) -> None:
    """Drop lines after `step`, and a last one that is cut, so that a run can go on there."""
    if not file.exists():
        return
    kept: list[str] = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            break
        if values["step"] <= step:
            kept.append(line)
    with replacing(file) as partial:
        partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


class MetricsLog:
    """Writes one line an update to `metrics.jsonl` and the same scalars to TensorBoard.

    Raises:
        KeyError: a metric without an entry in `METRICS`.
    """

    def __init__(self, file: Path, tensorboard: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._lines = file.open("a", encoding="utf-8")
        self._events = EventFileWriter(str(tensorboard))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One update's metrics."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        unknown = values.keys() - METRICS.keys()
        if unknown:
            raise KeyError(f"metrics without a meaning in flow/metrics.py: {sorted(unknown)}")
        now = time.time()
        self._lines.write(json.dumps({"step": step, "time": round(now, 3)} | dict(values)) + "\n")
        self._lines.flush()
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        self._events.add_event(Event(wall_time=now, step=step, summary=summary))

    def close(self) -> None:
        """Flush and close both files."""
        self._lines.close()
        self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
