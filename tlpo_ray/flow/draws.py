"""Random draws that several processes must agree on without talking."""

from __future__ import annotations

import hashlib


def uniform(*parts: object) -> float:
    """Return a number, at least 0 and below 1, that depends on the text of all parts and on nothing else.

    A hash instead of a generator's next number: the result does not depend on which process draws first.
    """
    digest = hashlib.blake2b(",".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
