"""lm-eval both ways: running its tasks and ours on a model, and reading answers from its sample logs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from tlpo_ray.config.run import ModelConfig
from tlpo_ray.evaluation.judge import Answered
from tlpo_ray.evaluation.sampling import Engine, on_gpu
from tlpo_ray.evaluation.suites import SUITES, Item
from tlpo_ray.evaluation.suites.mif import MISLABELLED, response_language
from tlpo_ray.evaluation.suites.mmmlu import SUBSETS
from tlpo_ray.flow.errors import UserError, first_line

Json = dict[str, Any]
TASKS = Path(__file__).with_name("tasks")
"""Our task files; lm-eval finds them here, nothing has to be copied."""
BATCH = 64
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
    model: ModelConfig,
    tasks: Sequence[str],
    engine: Engine,
    *,
    source: Path | None = None,
    max_new_tokens: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    output: Path | None = None,
) -> Json:
    """lm-eval's results on a model, samples included, with prompts put by its chat template.

    Args:
        tasks: names of lm-eval's tasks, or of ours.
        source: file with the records of the tasks, instead of the hub.
        max_new_tokens: longest answer; none takes the task's.
        output: folder where lm-eval writes its results and sample logs.

    Raises:
        UserError: a task is not known, or its data cannot be loaded.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported
    os.environ.setdefault("LMEVAL_LOG_LEVEL", "ERROR")
    import datasets
    import lm_eval
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    datasets.disable_progress_bars()
    manager = TaskManager(include_path=str(TASKS))
    for name in tasks:
        if name not in manager.all_tasks:
            raise UserError(
                f"--accuracy {name}: neither a task of lm-eval nor one of ours; `lm-eval ls tasks` lists its own"
            )
    tracker = EvaluationTracker(output_path=str(output)) if output is not None else None
    try:
        with TemporaryDirectory() as folder:
            found: Json | None = lm_eval.simple_evaluate(
                model="vllm" if engine == "vllm" else "hf",
                model_args=_model_args(model, engine),
                tasks=[str(_local_task(name, source, Path(folder))) if source else name for name in tasks],
                task_manager=manager,
                batch_size=BATCH,
                device="cuda" if on_gpu() else "cpu",
                limit=limit,
                log_samples=True,
                apply_chat_template=True,
                gen_kwargs={"max_gen_toks": max_new_tokens} if max_new_tokens else None,
                random_seed=seed,
                numpy_random_seed=seed,
                torch_random_seed=seed,
                evaluation_tracker=tracker,
            )
    except (AssertionError, ConnectionError, OSError, ValueError) as error:
        raise UserError(f"lm-eval could not run {', '.join(tasks)}: {first_line(error)}") from error
    assert found is not None, "this is the only rank"
    if tracker is not None:
        # The results give the folder's files their date.
        tracker.save_results_aggregated(results={name: value for name, value in found.items() if name != "samples"})
        for name, samples in found["samples"].items():
            tracker.save_results_samples(task_name=name, samples=samples)
    return found


def _model_args(model: ModelConfig, engine: Engine) -> str:
    longest = "max_model_len" if engine == "vllm" else "max_length"
    return (
        f"pretrained={model.path},dtype={model.dtype},trust_remote_code={model.trust_remote_code},"
        f"{longest}={model.max_context}"
    )


def _local_task(name: str, source: Path, folder: Path) -> Path:
    """A task file that is the named one of ours, with records from a file."""
    kind = "parquet" if source.suffix == ".parquet" else "json"
    split = "train" if name.startswith("mif_") else "test"
    settings = {
        "include": str(TASKS / f"{name}.yaml"), "task": name, "dataset_path": kind, "dataset_name": None,
        "dataset_kwargs": {"data_files": {split: str(source.absolute())}},
    }  # fmt: skip
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return file


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
    except (AttributeError, IndexError, KeyError, OSError, TypeError, ValueError) as error:
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
