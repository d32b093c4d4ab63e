"""Detectors by name: what is installed, and how one is built for a language."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from detectors.detector import Detector
from detectors.errors import SettingError, UnknownDetectorError
from detectors.language_profile import English
from detectors.segmented import SegmentedDetector
from detectors.segments import PARTS, Part

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

LANGUAGE = "language"
"""Name of the detector of language confusion."""
OF_PROMPT, EXEMPT, JUDGE_TEXT = "prompt", "exempt", "judge_text"
"""Values of a part's setting, and the one of the language detector's option `code` that makes code a part."""
GROUP = "tlpo_ray.detectors"
"""Entry-point group in which packages announce their detectors."""


class Factory(Protocol):
    """The object that an entry point of `GROUP` names: it builds the detector of one language.

    A factory that takes a parameter called `english` also receives the run's English setting.
    """

    def __call__(self, language: str, **settings: Any) -> Detector:
        """Return the detector of `language`.

        Raises:
            SettingError: the settings are wrong; the message is one line.
        """


class DetectorSet:
    """The detectors of one configuration, one per language; each is built when it is first needed.

    Example: `DetectorSet("language", "confusion")["ko"]` is the Korean detector to which English is confusion.

    Args:
        name: name of an installed detector.
        english: the English setting, for detectors that have one.
        settings: the detector's own settings.
        segments: how each part of an answer is judged (`build_detector`); None judges the whole text as one.
    """

    def __init__(
        self,
        name: str,
        english: English = "neutral",
        settings: Mapping[str, Any] | None = None,
        segments: Mapping[str, str] | None = None,
    ) -> None:
        self._name = name
        self._english: English = english
        self._settings = dict(settings or {})
        self._segments = segments
        self._built: dict[str, Detector] = {}

    def __getitem__(self, language: str) -> Detector:
        """Return the detector of `language`; the same object every time.

        Raises:
            UnknownDetectorError: no detector of that name is installed.
            DetectorError: the detector does not support the language or the settings.
        """
        detector = self._built.get(language)
        if detector is None:
            detector = build_detector(self._name, language, self._english, self._settings, self._segments)
            self._built[language] = detector
        return detector


def detector_names() -> tuple[str, ...]:
    """Return the names of the installed detectors, sorted."""
    return tuple(sorted(_installed()))


def build_detector(
    name: str,
    language: str,
    english: English = "neutral",
    settings: Mapping[str, Any] | None = None,
    segments: Mapping[str, str] | None = None,
) -> Detector:
    """Return the detector called `name` for texts in `language`.

    Example: `build_detector("language", "ko", segments={"thoughts": "en"})` expects English thoughts before a Korean
    answer.

    Args:
        name: name of an installed detector, e.g. "language" or "terms".
        language: two-letter code of the texts' language.
        english: passed to the detectors that have such a setting, and ignored by the others.
        settings: the detector's own settings, by name. `code="judge_text"` of a language detector judges string
            literals and comments in blocks of code.
        segments: parts of an answer (`detectors.segments.PARTS`), each with "prompt" (judged in `language`, the
            default), "exempt", or the language that it should be in. Code is a part only if it is named here. None
            judges the whole answer as one text.

    Raises:
        UnknownDetectorError: no detector of that name is installed.
        DetectorError: the detector does not support a language or the settings.
    """
    settings = dict(settings or {})
    if name == LANGUAGE and settings.get("code") == JUDGE_TEXT:
        del settings["code"]
        segments = {"code": OF_PROMPT} | dict(segments or {})
    if segments is None:
        return _build(name, language, english, settings)
    judged: dict[Part, str] = {"thoughts": OF_PROMPT, "answer": OF_PROMPT, "tool_calls": OF_PROMPT}
    for part, value in segments.items():
        if part not in PARTS:
            raise SettingError(f"segments: {part!r} is no part of an answer; available: {', '.join(PARTS)}")
        judged[part] = value
    languages = {part: language if value == OF_PROMPT else value for part, value in judged.items()}
    built = {value: _build(name, value, english, settings) for value in {*languages.values()} - {EXEMPT}}
    return SegmentedDetector({part: built.get(value) for part, value in languages.items()})


def segmented(language: str, english: English, segments: Mapping[str, str]) -> SegmentedDetector:
    """Return the language detector that judges each part of an answer in its own way (`build_detector`).

    Raises:
        DetectorError: a part does not exist, or a language is not supported.
    """
    detector = build_detector(LANGUAGE, language, english, None, segments)
    assert isinstance(detector, SegmentedDetector)
    return detector


def _build(name: str, language: str, english: English, settings: Mapping[str, Any]) -> Detector:
    """Return the detector of one language."""
    entry_point = _installed().get(name)
    if entry_point is None:
        raise UnknownDetectorError(f"detector {name!r}: not installed; available: {', '.join(detector_names())}")
    factory: Factory = entry_point.load()
    parameters = inspect.signature(factory).parameters
    # Only the language detector treats English specially, so a factory asks for the setting by naming the parameter.
    # Those written for the earlier contract, `(language, english, **settings)`, name it as well.
    arguments: dict[str, Any] = {"english": english} if "english" in parameters else {}
    for setting in arguments.keys() & settings:
        raise SettingError(
            f"detector {name!r}: {setting!r} is given twice; remove it from the detector's settings and set "
            f"detector.{setting}"
        )
    arguments |= settings
    try:
        inspect.signature(factory).bind(language, **arguments)
    except TypeError as error:
        raise SettingError(f"detector {name!r}: {error}; its settings: {_settings_of(factory)}") from error
    return factory(language, **arguments)


def _settings_of(factory: Factory) -> str:
    """Return the names of a factory's settings, as an error message lists them."""
    others = list(inspect.signature(factory).parameters.values())[1:]  # the first is the language
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = [parameter.name for parameter in others if parameter.kind not in variadic and parameter.name != "english"]
    return ", ".join(names) or "none"


@cache
def _installed() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # importing it takes longer than the rest of the package together

    return {entry_point.name: entry_point for entry_point in entry_points(group=GROUP)}
