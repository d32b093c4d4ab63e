"""Faces that are drawn with letters, (｀Д´) or ಠ_ಠ: their letters are words of no language."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from typing import Literal

from detectors.readings import PHONETIC_LETTER
from detectors.runs import Run
from detectors.scripts import script_of

Drawing = Literal["drawn", "open", "written"]
"""Whether letters belong to a drawing; "open": what follows decides."""

LONGEST_FACE = 28
"""Maximum length of a face with its brackets, in characters."""
LONGEST_SOUND = 8
"""Maximum length of the half-width kana beside a face that say how it sounds: ﾌﾟﾝﾌﾟﾝ(｀ω´)."""

_OPENING, _CLOSING = "(（⁽₍꒰༼ʕᔑᶘ", ")）⁾₎꒱༽ʔᔐᶅ"
_IN_TEXT = frozenset("\ufffd \t.,:;!?/\"'%&+=*_~|#-–—…、。，；！？：「」『』“”‘’《》【】[]{}")
"""Signs that ordinary text has beside letters: they make no face."""
_NOT_BESIDE = frozenset(" \t.,/\"'「」『』“”‘’")
"""Signs that make none even if the same one is on both sides of a letter: (т.е.)."""
_ARMS = frozenset("ヽヾノﾉゝゞヘへつづっとそシミ彡三一乂凸∠وლღงგფძnдщςεзЗᕙᕗᕦᕤᕕᓀᓂᐛᕮᕭପଘଓฅʢʡԅ")
"""Letters that are drawn beside a face, as arms, paws or wings."""
_DRAWN_ALONE = ("Kannada", "Canadian Aboriginal")
"""Scripts whose single letters beside a sign are eyes."""
_SMILE = "ツ"
"""A letter that is a face by itself: (ツ)."""
_HALF_WIDTH_KANA = re.compile("[\uff66-\uff9f]")
_NEVER = -1


def drawing(run: Run, text: str, *, is_end: bool) -> Drawing:
    """Return whether a run of letters belongs to a face that is drawn with signs.

    A face is in brackets and has no two letters of one script side by side, but at least two signs that text does not
    have, or twice the same one around a letter. Beside its brackets there may be arms, and kana of half width. Without
    brackets, letters of rare scripts beside a sign are eyes: ಠ_ಠ.

    Args:
        run: the letters, of another script than Latin.
        text: the text.
        is_end: whether the text is complete.
    """
    start, end = _with_sound(run, text)
    if end - start > LONGEST_SOUND:
        return "written"
    is_sound = _HALF_WIDTH_KANA.match(text, start) is not None
    is_single = sum(not _is_mark(char) for char in run.text) <= 1
    if not (is_single or is_sound or run.script in _DRAWN_ALONE or _ARMS.issuperset(run.text)):
        return "written"
    opening = _opening_before(text, start)
    verdicts = [_face(text, opening, is_end)] if opening != _NEVER else []
    if is_sound or _ARMS.issuperset(run.text):
        verdicts += _beside(text, start, end, is_end)
    if run.script in _DRAWN_ALONE:
        signs = (text[run.start - 1 : run.start], text[run.end : run.end + 1])
        is_eye = any(sign == "_" or (sign and _is_sign(sign)) for sign in signs)
        verdicts.append("drawn" if is_eye else "open" if end == len(text) and not is_end else "written")
    return "drawn" if "drawn" in verdicts else "open" if "open" in verdicts else "written"


def _with_sound(run: Run, text: str) -> tuple[int, int]:
    """Return the stretch of half-width kana around a run of them, with their voice marks; else the run itself."""
    start, end = run.start, run.end
    if _HALF_WIDTH_KANA.match(text, start):
        while start > 0 and run.end - start <= LONGEST_SOUND and _HALF_WIDTH_KANA.match(text, start - 1):
            start -= 1
        while end < len(text) and end - start <= LONGEST_SOUND and _HALF_WIDTH_KANA.match(text, end):
            end += 1
    return start, end


def _opening_before(text: str, position: int) -> int:
    """Return the index of the bracket that is open at `position`."""
    for index in range(position - 1, max(position - LONGEST_FACE, 0) - 1, -1):
        if text[index] in _OPENING:
            return index
        if text[index] in _CLOSING or text[index] == "\n":
            break
    return _NEVER


def _face(text: str, opening: int, is_end: bool) -> Drawing:
    """Return whether the bracket at `opening` begins a face."""
    last = min(opening + LONGEST_FACE, len(text))
    closing = opening + 1
    while closing < last and text[closing] not in _CLOSING and text[closing] != "\n":
        closing += 1
    inside = text[opening + 1 : closing]
    if _has_word(inside):
        return "written"
    if closing == len(text) and not is_end:
        return "open"
    return "drawn" if closing < last and text[closing] != "\n" and _has_eyes(inside) else "written"


def _has_word(inside: str) -> bool:
    """Return whether two letters of one script stand side by side, other than arms; so does what nobody draws with."""
    if not inside.isprintable():
        return True
    letters = [(char, script_of(char) if _is_letter(char) else "Common") for char in inside if not _is_mark(char)]
    return any(
        script == following_script not in ("Common", *_DRAWN_ALONE) and not _ARMS.issuperset((char, following))
        for (char, script), (following, following_script) in pairwise(letters)
    )


def _has_eyes(inside: str) -> bool:
    """Return whether something in a bracket without words is drawn: two signs, or the same one around a letter."""
    drawn = [char for char in inside if not _is_mark(char)]
    # A sign with a mark of a letter on it is an eye with its brow: •̀ and '̀.
    brows = sum(_is_mark(mark) and not char.isalnum() for char, mark in pairwise(inside))
    if sum(_is_sign(char) or char in _ARMS for char in drawn) + brows >= 2:
        return True
    if inside.strip() == _SMILE or any(script_of(char) in _DRAWN_ALONE for char in drawn):
        return True
    return any(
        left == right != mouth
        and left not in _NOT_BESIDE
        and not left.isdigit()
        and (_is_letter(mouth) or (mouth in "_." and not left.isalpha()))
        for left, mouth, right in zip(*(map(_without_accent, drawn[skip:]) for skip in range(3)), strict=False)
    )


def _beside(text: str, start: int, end: int, is_end: bool) -> list[Drawing]:
    """Return the verdicts on the faces to the left and to the right of arms or sounds, if there are any."""
    verdicts: list[Drawing] = []
    behind = end + 1 if text[end : end + 1] == " " else end
    if behind < len(text) and text[behind] in _OPENING:
        verdicts.append(_face(text, behind, is_end))
    elif behind == len(text) and not is_end:
        verdicts.append("open")
    before = start - 1 if text[start - 1 : start] == " " else start
    while before > 0 and text[before - 1] in _ARMS:  # (・∀・)ノシ
        before -= 1
    if before > 0 and text[before - 1] in _CLOSING:
        opening = _opening_before(text, before - 1)
        if opening != _NEVER:
            verdicts.append(_face(text, opening, is_end))
    return verdicts


def _is_sign(char: str) -> bool:
    """Return whether a character is a sign that ordinary text does not have beside letters."""
    return unicodedata.category(char)[0] in "LPS" and not _is_letter(char) and char not in _IN_TEXT


def _is_letter(char: str) -> bool:
    """Return whether a character is a letter of a word: not one of phonetics, and not a raised one."""
    if script_of(char) == "Common" or PHONETIC_LETTER.match(char):
        return False
    return not unicodedata.decomposition(char).startswith("<super>")


def _is_mark(char: str) -> bool:
    return unicodedata.category(char) in ("Mn", "Me")


def _without_accent(char: str) -> str:
    return unicodedata.normalize("NFD", char)[0]
