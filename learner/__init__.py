"""The learner: candidate groups in, policy versions out. These are the names for users and for authors of trainers.

>>> from learner import build_learner
>>> worker = build_learner(config.model, config.learner, seed=0)
>>> worker.update(groups, progress=0.0).metrics()

Names are imported when they are first used, so `import learner` is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlpo_ray.lazy import lazy_exports

if TYPE_CHECKING:
    from learner.advantage import AdvantageForm
    from learner.engine import Loss, RankInfo, TrainEngine
    from learner.objective import Objective, tlpo_objective
    from learner.policy import Policy
    from learner.report import StepReport, UpdateReport
    from learner.torch_engine import TorchEngine
    from learner.weight_export import WeightExporter
    from learner.worker import LearnerWorker, build_learner

__all__ = [
    "AdvantageForm",
    "LearnerWorker",
    "Loss",
    "Objective",
    "Policy",
    "RankInfo",
    "StepReport",
    "TorchEngine",
    "TrainEngine",
    "UpdateReport",
    "WeightExporter",
    "build_learner",
    "tlpo_objective",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "AdvantageForm": "learner.advantage",
        "LearnerWorker": "learner.worker",
        "Loss": "learner.engine",
        "Objective": "learner.objective",
        "Policy": "learner.policy",
        "RankInfo": "learner.engine",
        "StepReport": "learner.report",
        "TorchEngine": "learner.torch_engine",
        "TrainEngine": "learner.engine",
        "UpdateReport": "learner.report",
        "WeightExporter": "learner.weight_export",
        "build_learner": "learner.worker",
        "tlpo_objective": "learner.objective",
    },
)
