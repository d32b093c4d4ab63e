"""Small folders of runs and experiments, as the commands leave them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tlpo_ray.config.load import dump_config, load_config
from tlpo_ray.files import write_json, write_lines
from tlpo_ray.flow.records import SCHEMA, CandidateGroup, to_batch

Json = dict[str, Any]
ATTACK = "<script>document.title = 'attacked'</script><img src=x onerror=\"document.title='attacked'\">"
"""Text that an answer may contain."""
CONFUSED = {
    "ko": ("체코의 통화는 ", "чеська", "체코 코루나입니다."),
    "ar": ("عملة الهند هي ", "рупія", "روبية هندية."),
    "ja": ("タイの通貨は", "บาท", "タイ バーツです。"),
}
"""Language → (answer up to its confusion point, confused word there, right continuation)."""
METHODS = {"tlpo": "TLPO", "sft": "SFT", "dpo": "DPO", "orpo": "ORPO", "grpo": "GRPO"}


def group(
    language: str = "ko", number: int = 0, *, n: int = 16, confusing: Sequence[int] = (1, 2), context: str = ""
) -> CandidateGroup:
    """Return a candidate group whose candidates `confusing` lead to confusion; probabilities halve from 1/2 on."""
    start, word, end = CONFUSED[language]
    start = context or start
    return CandidateGroup(
        prompt_index=number, prompt_id=f"{language}-{number}", language=language,
        context_ids=np.arange(5, dtype=np.int32), prompt_length=3, candidate_ids=np.arange(n, dtype=np.int32),
        old_logp=np.log(0.5 ** np.arange(1, n + 1)).astype(np.float32),
        rewards=np.array([-1.0 if i in confusing else 1.0 for i in range(n)], np.float32),
        sampling_version=0, detector_version="2", response=start + word,
        span_start=len(start), span_end=len(start + word), span_kind="Cyrillic",
        lookaheads=tuple(word if i in confusing else end for i in range(n)),
    )  # fmt: skip


def answer(when: str, language: str, number: int, sample: int = 0, *, confused: bool, text: str = "") -> Json:
    """Return a line of `answers.jsonl`."""
    start, word, end = CONFUSED[language]
    content = text or (start + (f"{word}." if confused else end))
    spans = [[len(start), len(start + word)]] if confused else []
    return {
        "when": when, "id": f"{language}-{number}", "language": language, "prompt": f"{start}? {number}",
        "sample": sample, "answer": content, "spans": spans,
    }  # fmt: skip


def make_run(
    folder: Path,
    groups: Sequence[CandidateGroup] = (),
    answers: Sequence[Json] = (),
    *,
    result: Mapping[str, object] | None = None,
    updates: int = 1,
    probed: bool = True,
) -> Path:
    """Write a run's folder; in `new_logp.json`, confusing candidates have a tenth of their probability."""
    (folder / "experiences").mkdir(parents=True)
    config = load_config("quickstart", ["model.path=/models/toy", f"folder={folder}"])
    (folder / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    write_lines(folder / "metrics.jsonl", (_update(step, updates) for step in range(1, updates + 1)))
    if result is not None:
        write_json(folder / "result.json", dict(result))
    if groups:
        table = pa.Table.from_batches([to_batch(groups)], schema=SCHEMA)
        pq.write_table(table, folder / "experiences" / "groups-00000.parquet")
        lowered = {n: np.where(group.rewards < 0, group.old_logp + math.log(0.1), group.old_logp).tolist()
                   for n, group in enumerate(groups)}  # fmt: skip
        if probed:
            (folder / "new_logp.json").write_text(json.dumps(lowered), encoding="utf-8")
    if answers:
        write_lines(folder / "answers.jsonl", answers)
    return folder


def _update(step: int, updates: int) -> Json:
    share = step / updates
    return {
        "step": step, "time": float(step), "progress": share, "rpr_recent": 0.7 + 0.29 * share, "loss": -0.01 * share,
        "kl": 0.2 * share, "clip_fraction": 0.1, "reward_mass": 0.5 + 0.4 * share, "lr": 1e-4, "clean_length": 14.0,
        "grad_norm": 0.3, "ratio_deviation": 0.2,
    }  # fmt: skip


def row(variant: str, seed: int = 0, method: str = "tlpo", label: str = "", axes: Json | None = None, **metrics: Any
        ) -> Json:  # fmt: skip
    """Return a line of `results.jsonl`."""
    curve = [{"share": i / 5, "rpr": 0.7 + i / 20, "reward": 0.4 + i / 10, "length": 14.0} for i in range(6)]
    return {
        "experiment": "made-up", "run": f"{variant}-{seed}", "variant": variant, "label": label or variant,
        "method": method, "seed": seed, "settings": [], "axes": axes or {}, "metrics": metrics,
        "curve": curve if method in ("tlpo", "grpo") else [],
    }  # fmt: skip


def make_experiment(
    folder: Path, rows: Sequence[Json], *, advantage: Json | None = None, shift: Json | None = None, title: str = "Test"
) -> Path:
    """Write an experiment's folder."""
    folder.mkdir(parents=True)
    (folder / "experiment.yaml").write_text(
        f"name: made-up\ntitle: {json.dumps(title)}\nabout: Invented numbers.\n", encoding="utf-8"
    )
    write_lines(folder / "results.jsonl", rows)
    for name, value in (("advantage", advantage), ("shift", shift)):
        if value is not None:
            write_json(folder / f"{name}.json", value)
    return folder


def comparison() -> list[Json]:
    """Return three seeds of six methods: TLPO first on RPR, behind DPO on KL and behind SFT on seconds."""
    rows = [
        row("baseline", seed, "none", "before", rpr=0.75, wpr=0.93, accuracy=0.997, accuracy_strict=0.87, length=26.9)
        for seed in range(3)
    ]
    for place, (method, label) in enumerate(METHODS.items()):
        for seed in range(3):
            jitter = 0.002 * seed
            rows.append(
                row(
                    method, seed, method, label, rpr=0.99 - 0.03 * place - jitter, wpr=0.998 - 0.01 * place,
                    accuracy=0.998 - 0.004 * place - jitter / 10, accuracy_strict=0.99 - 0.03 * place,
                    rpr_unasked=0.95, accuracy_asked=0.99, accuracy_unasked=0.95, accuracy_other_topic=0.99,
                    accuracy_other_language=0.98, accuracy_english=1.0,
                    kl_clean=0.005 if method == "dpo" else 0.009 + 0.004 * place, length=26.1,
                    seconds=14.0 + seed - 6 * (method == "sft"),
                )
            )  # fmt: skip
    return rows


def advantage_json() -> Json:
    """Return the content of `advantage.json`: a confusing candidate among clean ones, one of them an attack."""
    candidates = [
        {"token": ATTACK if i == 2 else "чеська" if i == 1 else "체코", "probability": 0.5**i / 2,
         "reward": -1.0 if i == 1 else 1.0, "tlpo": -0.5 if i == 1 else 0.5 / 15, "unweighted": -1.3 if i == 1 else 0.2,
         "grpo": -2.0 if i == 1 else 0.4}
        for i in range(16)
    ]  # fmt: skip
    return {"prompt": "체코의 통화는 무엇입니까?", "context": "체코의 통화는 ", "candidates": candidates}


def shift_json(*, beyond_after: float = 0.001) -> Json:
    """Return the content of `shift.json`: confusing tokens beyond the top 16 have 0.004 before."""
    ranks = ((1, 16), (17, 32), (33, 64))
    masses = {(True, True): (0.4, 0.03), (True, False): (0.004, beyond_after), (False, True): (0.59, 0.96),
              (False, False): (0.006, 0.005)}  # fmt: skip
    return {
        "contexts": 120, "n": 16,
        "groups": [
            {"label": f"{'confusing' if bad else 'clean'}, {'inside the top 16' if inside else 'rank 17 to 64'}",
             "confusing": bad, "inside": inside, "before": before, "after": after, "ratio": after / before}
            for (bad, inside), (before, after) in masses.items()
        ],
        "by_rank": [
            {"rank_from": first, "rank_to": last, "confusing": bad, "tokens": 90, "log_ratio_mean": mean,
             "log_ratio_low": mean - 0.1, "log_ratio_high": mean + 0.1}
            for bad in (True, False)
            for (first, last), mean in zip(ranks, (-2.5, -1.2, -0.8) if bad else (0.4, -0.1, -0.1), strict=True)
        ],
    }  # fmt: skip
