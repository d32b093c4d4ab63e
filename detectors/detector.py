"""What a detector is: anything that finds the first localised error of a text. Languages are one kind."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from detectors.errors import SettingError, UnknownDetectorError
from detectors.find import Confusion, confusions
from detectors.profile import English, Profile

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "tlpo_ray.detectors"
"""Entry-point group in which packages announce detectors."""


@runtime_checkable
class Detector(Protocol):
    """Finds where a text first goes wrong: all that `Stream`, rollouts, rewards and `tlpo detect` need.

    A language `Profile` is one. Three laws keep training honest:

    1. `find(text[:e.index])` is None for `e = find(text)`: the index is the first wrong character.
    2. What `find(text[:k], final=False)` finds, `find(text)` finds at the same index: certain is certain.
    3. `find(text[k:], prefix=text[:k])` is the same error, counted from k, for every k up to its index.
    """

    @property
    def version(self) -> str:
        """Changes whenever a verdict can: it is written into every candidate group."""

    def find(self, text: str, prefix: str = "", final: bool = True) -> Confusion | None:
        """The first error in `text`, indices counted from its start.

        Args:
            text: may hold lone surrogates (bytes of unfinished characters): no evidence either way.
            prefix: what stands to the left of `text`: context, never itself the error.
            final: False if `text` may go on: then only an error that no continuation can move or remove.
        """


def spans(text: str, detector: Detector) -> list[Confusion]:
    """All errors of a text, from left to right, without overlaps.

    A detector other than a language profile is asked again for what lies behind each error.
    """
    if isinstance(detector, Profile):
        return confusions(text, detector)
    found: list[Confusion] = []
    start = 0
    while start < len(text) and (error := detector.find(text[start:], text[:start])) is not None:
        index, end = start + error.index, start + max(error.end, error.index + 1)
        found.append(Confusion(index, end, text[index:end], error.script, error.tier))
        start = end
    return found


class Factory(Protocol):
    """What an entry point of `GROUP` names: makes the detector of one language."""

    def __call__(self, language: str, english: English, **settings: Any) -> Detector:
        """Raises `SettingError`, one clear line, for wrong settings."""


def detector_names() -> tuple[str, ...]:
    """Names of the installed detectors."""
    return tuple(sorted(_installed()))


def build_detector(
    name: str, language: str, english: English = "neutral", settings: Mapping[str, Any] | None = None
) -> Detector:
    """The detector of that name for texts in `language`.

    Raises:
        UnknownDetectorError: there is none of that name.
        DetectorError: it does not take the language or the settings.
    """
    found = _installed().get(name)
    if found is None:
        raise UnknownDetectorError(f"detector {name!r}: not installed; there are: {', '.join(detector_names())}")
    factory: Factory = found.load()
    try:
        inspect.signature(factory).bind(language, english, **(settings or {}))
    except TypeError as error:
        raise SettingError(f"detector {name!r}: {error}; its settings: {_settings_of(factory)}") from error
    return factory(language, english, **(settings or {}))


def _settings_of(factory: Factory) -> str:
    names = [name for name, one in inspect.signature(factory).parameters.items() if one.kind is one.KEYWORD_ONLY]
    return ", ".join(names) or "none"


@cache
def _installed() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # takes longer than all the rest of the package

    return {found.name: found for found in entry_points(group=GROUP)}
