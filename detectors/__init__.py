"""Where a text leaves its language: rules on letters, words and passages. Has no dependency on the other packages.

>>> import detectors
>>> detectors.find("통화는 єна입니다", detectors.language("ko"))
Finding(start=4, end=7, text='єна', kind='Cyrillic', rule='script')
"""

from __future__ import annotations

from detectors.characters import ScriptCharacters, script_characters
from detectors.detector import CountsWords, Detector, IncrementalDetector, Scan, count, find, spans
from detectors.errors import (
    DetectorError,
    MissingExtraError,
    SettingError,
    UnknownDetectorError,
    UnknownLanguageError,
)
from detectors.finding import Confusion, Finding
from detectors.identification import identify
from detectors.language_detector import LanguageDetector, Profile, language, profile
from detectors.language_names import code_or_name, covers, language_code, selected
from detectors.language_profile import English, LanguageProfile
from detectors.language_table import languages
from detectors.options import Options
from detectors.rates import Rates, pass_rates, rates_of, wilson_interval
from detectors.registry import DetectorSet, build_detector, detector_names, segmented
from detectors.segmented import SegmentedDetector, for_answer
from detectors.stream import Stream
from detectors.terms import TermsDetector
from detectors.words import Counts

__all__ = [
    "Confusion",
    "Counts",
    "CountsWords",
    "Detector",
    "DetectorError",
    "DetectorSet",
    "English",
    "Finding",
    "IncrementalDetector",
    "LanguageDetector",
    "LanguageProfile",
    "MissingExtraError",
    "Options",
    "Profile",
    "Rates",
    "Scan",
    "ScriptCharacters",
    "SegmentedDetector",
    "SettingError",
    "Stream",
    "TermsDetector",
    "UnknownDetectorError",
    "UnknownLanguageError",
    "build_detector",
    "code_or_name",
    "count",
    "covers",
    "detector_names",
    "find",
    "for_answer",
    "identify",
    "language",
    "language_code",
    "languages",
    "pass_rates",
    "profile",
    "rates_of",
    "script_characters",
    "segmented",
    "selected",
    "spans",
    "wilson_interval",
]
