"""Runs as jobs of a Ray cluster, submitted from another machine.

>>> from tlpo_ray.jobs import Jobs, new_run
>>> jobs = Jobs("http://127.0.0.1:8265")
>>> name = jobs.submit(new_run("qwen3-8b-ko", ["folder=/shared/runs/qwen3-8b-ko"], upload_folder))
>>> jobs.follow(name, sys.stdout.write)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlpo_ray.lazy import lazy_exports

if TYPE_CHECKING:
    from tlpo_ray.jobs.ray_shell import Jobs
    from tlpo_ray.jobs.upload import Job, new_run, resumed_run

__all__ = ["Job", "Jobs", "new_run", "resumed_run"]

__getattr__ = lazy_exports(
    __name__,
    {
        "Job": "tlpo_ray.jobs.upload",
        "Jobs": "tlpo_ray.jobs.ray_shell",
        "new_run": "tlpo_ray.jobs.upload",
        "resumed_run": "tlpo_ray.jobs.upload",
    },
)
