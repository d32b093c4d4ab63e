"""Addresses at which processes of a cluster can reach each other."""

from __future__ import annotations

import socket

import ray.util


def free_address() -> tuple[str, int]:
    """Return this node's address and a port that is free now.

    The port is released before it is returned, so another process may take it in between: use it at once.
    """
    host: str = ray.util.get_node_ip_address()
    with socket.socket() as probe:
        probe.bind(("", 0))
        return host, int(probe.getsockname()[1])
