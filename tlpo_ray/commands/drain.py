"""`tlpo drain` on the terminal."""

from __future__ import annotations

from tlpo_ray.cluster.drain import drain_node
from tlpo_ray.commands.display import console


def drain_command(node_id: str | None, notice_s: int) -> None:
    """Drain a node, wait until the processes of runs have left it, and say how many did.

    Raises:
        TlpoError: See `tlpo_ray.errors`.
    """
    node, count = drain_node(node_id, notice_s)
    console.print(
        f"node {node} is drained and gets nothing new; processes of runs that have left it: {count}", soft_wrap=True
    )
