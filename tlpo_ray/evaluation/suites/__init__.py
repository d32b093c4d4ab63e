"""Built-in suites: the source of their prompts, how answers are sampled, which records are left out, what is right."""

from tlpo_ray.evaluation.suites import gsm8k, lcb, mif, mmmlu
from tlpo_ray.evaluation.suites.suite import Item, ItemSet, Suite, read_items

SUITES: dict[str, Suite] = {
    suite.name: suite for suite in (lcb.MONOLINGUAL, lcb.CROSSLINGUAL, mif.SUITE, mmmlu.SUITE, gsm8k.SUITE)
}
"""Built-in suites by name, in the order of the paper's tables."""

__all__ = ["SUITES", "Item", "ItemSet", "Suite", "read_items"]
