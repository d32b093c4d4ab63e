"""Where a text leaves its language: rules on letters and words, without a model and without dependencies.

>>> import detectors
>>> detectors.find("통화는 єна입니다", detectors.profile("ko"))
Confusion(index=4, end=7, text='єна', script='Cyrillic')
"""

from __future__ import annotations

from detectors.find import Confusion, find, spans
from detectors.profile import English, Profile, UnknownLanguageError, languages, profile
from detectors.words import Counts, count

# Goes into every candidate group: changes with anything that changes a verdict.
DETECTOR_VERSION = "1"

__all__ = [
    "DETECTOR_VERSION",
    "Confusion",
    "Counts",
    "English",
    "Profile",
    "UnknownLanguageError",
    "count",
    "find",
    "languages",
    "profile",
    "spans",
]
