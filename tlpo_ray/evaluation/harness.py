"""lm-eval both ways: running its tasks and ours on a model, and reading answers from its sample logs."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlpo_ray.config.run import ModelConfig
from tlpo_ray.evaluation.judge import Answered
from tlpo_ray.evaluation.sampling import Engine
from tlpo_ray.evaluation.suites import SUITES, Item
from tlpo_ray.evaluation.suites.mif import MISLABELLED, response_language
from tlpo_ray.evaluation.suites.mmmlu import SUBSETS
from tlpo_ray.flow.errors import UserError, first_line

Json = dict[str, Any]
TASKS = Path(__file__).with_name("tasks")
"""Our task files; lm-eval finds them here, nothing has to be copied."""
LAST_NUMBER = "flexible-extract"
"""lm-eval logs an answer once a filter; this is the one whose lines are read where there are several."""
FAMILIES = (
    (re.compile(r"lcb_monolingual_(\w\w)"), "lcb-monolingual"),
    (re.compile(r"lcb_crosslingual_(\w\w)"), "lcb-crosslingual"),
    (re.compile(r"mif_(\w\w)"), "mif"),
    (re.compile(r"mmmlu_(\w\w_\w\w)"), "mmmlu"),
    (re.compile(r"gsm8k_(?:platinum_mix|cross)_(\w\w)"), "gsm8k-cross"),
)
"""Tasks whose answers the paper judges, by name, and the suite they belong to."""
_LANGUAGE_OF = {subset: language for language, subset in SUBSETS.items()}


def paper_tasks(language: str) -> list[str]:
    """Accuracy tasks of the paper for a target language: lm-eval's own, and ours."""
    ours = [f"mif_{language}", f"gsm8k_cross_{language}", f"mmmlu_{SUBSETS.get(language, language)}"]
    return [
        "arc_challenge_chat", "bbh_cot_zeroshot", "gpqa_main_cot_zeroshot", "gpqa_diamond_cot_zeroshot",
        "gsm8k_platinum_cot_zeroshot", "score_non_greedy_robustness_math", *ours,
    ]  # fmt: skip


def run_tasks(
    model: ModelConfig, tasks: Sequence[str | Json], engine: Engine, limit: int | None, seed: int, batch: int = 64
) -> Json:
    """lm-eval's results on a model, samples included, with prompts put by its chat template.

    Args:
        tasks: names, or settings over a task (`{"task": "gsm8k_cross_ko", "dataset_path": …}`).

    Raises:
        UserError: a task is not known, or its data cannot be loaded.
    """
    import lm_eval
    from lm_eval.tasks import TaskManager

    dtype = f"pretrained={model.path},dtype={model.dtype},trust_remote_code={model.trust_remote_code}"
    sizes = f"max_model_len={model.max_context}" if engine == "vllm" else f"max_length={model.max_context}"
    manager = TaskManager(include_path=str(TASKS))
    unknown = [
        name for task in tasks if (name := task if isinstance(task, str) else task["task"]) not in manager.all_tasks
    ]
    if unknown:
        raise UserError(
            f"--accuracy {unknown[0]}: neither a task of lm-eval nor one of ours; `lm-eval ls tasks` lists them"
        )
    try:
        found: Json | None = lm_eval.simple_evaluate(
            model="vllm" if engine == "vllm" else "hf",
            model_args=f"{dtype},{sizes}",
            tasks=list(tasks),
            task_manager=manager,
            batch_size=batch,
            limit=limit,
            log_samples=True,
            apply_chat_template=True,
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            verbosity="ERROR",
        )
    except (ConnectionError, OSError, ValueError) as error:
        raise UserError(f"lm-eval could not run {', '.join(map(str, tasks))}: {first_line(error)}") from error
    assert found is not None, "this is the only rank"
    return found


def scores(results: Json) -> dict[str, dict[str, float]]:
    """Numbers of each task, by `metric,filter`."""
    return {
        task: {name: value for name, value in found.items() if isinstance(value, float | int) and "," in name}
        for task, found in results["results"].items()
    }


def read_log(path: Path, languages: Sequence[str], tasks: Sequence[str] = ()) -> list[Answered]:
    """Answers in the sample logs that `lm-eval --log_samples` wrote: a file, or a folder with any number of them.

    Args:
        languages: whose answers to read; none takes all.
        tasks: names of the tasks to read; none takes those that the paper judges.

    Raises:
        UserError: nothing of it is there, or a log is damaged.
    """
    files = sorted(path.rglob("samples_*.jsonl")) if path.is_dir() else [path]
    answers: list[Answered] = []
    for file in files:
        task = re.sub(r"_\d{4}-\d\d-\d\dT.*$", "", file.stem.removeprefix("samples_"))
        place = _family(task)
        if place is None or (tasks and task not in tasks) or (languages and place[1] not in languages):
            continue
        answers += _logged(file, task, *place)
    if not answers:
        wanted = ", ".join(tasks) or "LCB, MIF, MMMLU or GSM8K-cross"
        raise UserError(f"--lm-eval {path}: no sample log of {wanted} in {', '.join(languages) or 'any language'}")
    return answers


def answers_of(task: str, samples: Sequence[Json]) -> list[Answered]:
    """Answers among lm-eval's samples of one task; those that Appendix E leaves out are not among them."""
    place = _family(task)
    assert place is not None, f"{task} is no task that is judged"
    suite, language = place
    several = len({sample.get("filter") for sample in samples}) > 1
    return [
        _answered(task, suite, language, sample)
        for sample in samples
        if (not several or sample.get("filter") == LAST_NUMBER) and not _left_out(suite, language, sample)
    ]


def _logged(file: Path, task: str, suite: str, language: str) -> list[Answered]:
    try:
        samples = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        return answers_of(task, samples)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(f"{file}: not a sample log of lm-eval ({type(error).__name__}: {first_line(error)})") from error


def _family(task: str) -> tuple[str, str] | None:
    """Suite and language of a task that is judged."""
    for pattern, suite in FAMILIES:
        if match := pattern.fullmatch(task):
            language = _LANGUAGE_OF.get(match[1], match[1])
            return (suite, language) if language in SUITES[suite].languages else None
    return None


def _left_out(suite: str, language: str, sample: Json) -> bool:
    if suite != "mif":
        return False
    asked = response_language(sample["doc"])
    return sample["doc_id"] in MISLABELLED.get(language, ()) or (asked is not None and asked != language)


def _answered(task: str, suite: str, language: str, sample: Json) -> Answered:
    doc = sample["doc"]
    reference = str(doc.get("answer", doc.get("Answer", sample.get("target", ""))))
    item = Item(
        suite=suite, task=task, source="lm-eval", id=str(sample["doc_id"]), language=language,
        prompt=str(doc.get("prompt", doc.get("question", doc.get("Question", "")))),
        reference=reference.rpartition("####")[2].strip() if SUITES[suite].correct else "",
    )  # fmt: skip
    return Answered(item=item, sample=0, answer=sample["resps"][0][0])
