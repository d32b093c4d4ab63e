"""Built-in suites: the source of their prompts, how answers are sampled, which records are left out, what is right."""

from tlpo_ray.evaluation.suites import gsm8k, lcb, mif, mmmlu, wanted
from tlpo_ray.evaluation.suites.suite import Item, ItemSet, Suite, read_items, select_items

SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (lcb.MONOLINGUAL, lcb.CROSSLINGUAL, mif.SUITE, mmmlu.SUITE, gsm8k.SUITE, wanted.SUITE)
}
"""Built-in suites by name: those of the paper in the order of its tables, then our own."""

__all__ = ["SUITES", "Item", "ItemSet", "Suite", "read_items", "select_items"]
