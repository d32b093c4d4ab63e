"""Where a text leaves its language: rules on letters, words and passages. Needs nothing else of this project.

>>> import detectors
>>> detectors.find("통화는 єна입니다", detectors.profile("ko"))
Confusion(index=4, end=7, text='єна', script='Cyrillic', tier='script')
"""

from __future__ import annotations

from detectors.detector import Detector, build_detector, detector_names, spans
from detectors.errors import (
    DetectorError,
    MissingExtraError,
    SettingError,
    UnknownDetectorError,
    UnknownLanguageError,
)
from detectors.find import Confusion, find
from detectors.languages import languages
from detectors.options import Options
from detectors.profile import English, Profile, profile
from detectors.rates import Rates, pass_rates, rates_of, wilson_interval
from detectors.stream import Stream
from detectors.terms import TermsDetector
from detectors.words import Counts, count

__all__ = [
    "Confusion",
    "Counts",
    "Detector",
    "DetectorError",
    "English",
    "MissingExtraError",
    "Options",
    "Profile",
    "Rates",
    "SettingError",
    "Stream",
    "TermsDetector",
    "UnknownDetectorError",
    "UnknownLanguageError",
    "build_detector",
    "count",
    "detector_names",
    "find",
    "languages",
    "pass_rates",
    "profile",
    "rates_of",
    "spans",
    "wilson_interval",
]
