"""Token-Level Policy Optimization against language confusion: what the `tlpo` command does, from Python.

>>> from tlpo_ray import load_config, train
>>> result = train(load_config("quickstart", ["model.path=my-model", "data.prompts=prompts.jsonl"]))
>>> result.updates, result.rpr_sampled, result.model

Nothing here prints; long-running functions report to a `ProgressListener`. Errors that have a cause on the user's side
derive from `tlpo_ray.errors.TlpoError`. Names are imported when they are first used, so `import tlpo_ray` is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlpo_ray.config import versions
from tlpo_ray.lazy import lazy_exports

if TYPE_CHECKING:
    from tlpo_ray.baselines.pairs import make_pairs
    from tlpo_ray.baselines.training import BaselineResult, train_baseline
    from tlpo_ray.cluster.post_mortem import PostMortem, post_mortem
    from tlpo_ray.config.baseline import BaselineConfig, load_baseline
    from tlpo_ray.config.load import dump_config, load_config
    from tlpo_ray.config.run import RunConfig
    from tlpo_ray.data.prepare import PreparedPrompts, prepare_prompts
    from tlpo_ray.data.requests import PairsRequest, PrepareRequest
    from tlpo_ray.evaluation.accuracy import AccuracyRequest, AccuracyResult, measure_accuracy
    from tlpo_ray.evaluation.alternatives import AlternativesRequest, AlternativesResult, compare_alternatives
    from tlpo_ray.evaluation.evaluate import EvaluateRequest, EvaluationResult, evaluate
    from tlpo_ray.experiment.plan import Plan, load_plan
    from tlpo_ray.experiment.run import ExperimentResult, run_experiment
    from tlpo_ray.progress import ProgressListener, TrainingProgress
    from tlpo_ray.quickstart.run import QuickstartResult, resume_quickstart, run_quickstart
    from tlpo_ray.report.page import Report, write_report
    from tlpo_ray.run.backends import Backend, BackendComparison, compare_backends
    from tlpo_ray.run.control import RunStatus, scale, status
    from tlpo_ray.run.doctor import Check, run_checks
    from tlpo_ray.run.export import export_model, push_to_hub
    from tlpo_ray.run.result import RunResult
    from tlpo_ray.run.training import resume_training as resume
    from tlpo_ray.run.training import run_training as train

__version__ = versions.VERSION
__all__ = [
    "AccuracyRequest",
    "AccuracyResult",
    "AlternativesRequest",
    "AlternativesResult",
    "Backend",
    "BackendComparison",
    "BaselineConfig",
    "BaselineResult",
    "Check",
    "EvaluateRequest",
    "EvaluationResult",
    "ExperimentResult",
    "PairsRequest",
    "Plan",
    "PostMortem",
    "PrepareRequest",
    "PreparedPrompts",
    "ProgressListener",
    "QuickstartResult",
    "Report",
    "RunConfig",
    "RunResult",
    "RunStatus",
    "TrainingProgress",
    "compare_alternatives",
    "compare_backends",
    "dump_config",
    "evaluate",
    "export_model",
    "load_baseline",
    "load_config",
    "load_plan",
    "make_pairs",
    "measure_accuracy",
    "post_mortem",
    "prepare_prompts",
    "push_to_hub",
    "resume",
    "resume_quickstart",
    "run_checks",
    "run_experiment",
    "run_quickstart",
    "scale",
    "status",
    "train",
    "train_baseline",
    "write_report",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "AccuracyRequest": "tlpo_ray.evaluation.accuracy",
        "AccuracyResult": "tlpo_ray.evaluation.accuracy",
        "AlternativesRequest": "tlpo_ray.evaluation.alternatives",
        "AlternativesResult": "tlpo_ray.evaluation.alternatives",
        "Backend": "tlpo_ray.run.backends",
        "BackendComparison": "tlpo_ray.run.backends",
        "BaselineConfig": "tlpo_ray.config.baseline",
        "BaselineResult": "tlpo_ray.baselines.training",
        "Check": "tlpo_ray.run.doctor",
        "EvaluateRequest": "tlpo_ray.evaluation.evaluate",
        "EvaluationResult": "tlpo_ray.evaluation.evaluate",
        "ExperimentResult": "tlpo_ray.experiment.run",
        "PairsRequest": "tlpo_ray.data.requests",
        "Plan": "tlpo_ray.experiment.plan",
        "PostMortem": "tlpo_ray.cluster.post_mortem",
        "PrepareRequest": "tlpo_ray.data.requests",
        "PreparedPrompts": "tlpo_ray.data.prepare",
        "ProgressListener": "tlpo_ray.progress",
        "QuickstartResult": "tlpo_ray.quickstart.run",
        "Report": "tlpo_ray.report.page",
        "RunConfig": "tlpo_ray.config.run",
        "RunResult": "tlpo_ray.run.result",
        "RunStatus": "tlpo_ray.run.control",
        "TrainingProgress": "tlpo_ray.progress",
        "compare_alternatives": "tlpo_ray.evaluation.alternatives",
        "compare_backends": "tlpo_ray.run.backends",
        "dump_config": "tlpo_ray.config.load",
        "evaluate": "tlpo_ray.evaluation.evaluate",
        "export_model": "tlpo_ray.run.export",
        "load_baseline": "tlpo_ray.config.baseline",
        "load_config": "tlpo_ray.config.load",
        "load_plan": "tlpo_ray.experiment.plan",
        "make_pairs": "tlpo_ray.baselines.pairs",
        "measure_accuracy": "tlpo_ray.evaluation.accuracy",
        "post_mortem": "tlpo_ray.cluster.post_mortem",
        "prepare_prompts": "tlpo_ray.data.prepare",
        "push_to_hub": "tlpo_ray.run.export",
        "resume": "tlpo_ray.run.training:resume_training",
        "resume_quickstart": "tlpo_ray.quickstart.run",
        "run_checks": "tlpo_ray.run.doctor",
        "run_experiment": "tlpo_ray.experiment.run",
        "run_quickstart": "tlpo_ray.quickstart.run",
        "scale": "tlpo_ray.run.control",
        "status": "tlpo_ray.run.control",
        "train": "tlpo_ray.run.training:run_training",
        "train_baseline": "tlpo_ray.baselines.training",
        "write_report": "tlpo_ray.report.page",
    },
)
