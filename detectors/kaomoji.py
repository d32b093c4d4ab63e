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

_OPENING, _CLOSING = "(（⁽₍꒰༼ʕᔑᶘ૮", ")）⁾₎꒱༽ʔᔐᶅა"
_DRAWN_BRACKETS = "༼꒰ᔑ"
"""Brackets that are drawn wherever they are: a face in them needs no further signs."""
_IN_TEXT = frozenset("\ufffd \t.,:;!?/\"'%&+=*_~|#-–—…、。，；！？：「」『』“”‘’《》【】[]{}")
"""Signs that ordinary text has beside letters: they make no face."""
_NOT_BESIDE = frozenset(" \t.,/\"'「」『』“”‘’")
"""Signs that make none even if the same one is on both sides of a letter: (т.е.)."""
_ARMS = frozenset("ヽヾノﾉゝゞヘへつづっとそシミ彡三一乂凸乙尸旦且∠وლღงგფძnдщςεζзЗѰᕙᕗᕦᕤᕕᓀᓂᐛᕮᕭପଘଓฅʢʡԅა")
"""Letters that are drawn beside a face, as arms, paws or wings."""
_DRAWN_ALONE = ("Kannada", "Canadian Aboriginal", "Yi")
"""Scripts whose letters beside a sign are eyes."""
_JAPANESE = ("Han", "Hiragana", "Katakana")
"""Scripts that are mixed in one word: 見て."""
_OVERLAID = re.compile("[\u0334-\u0338]")
_PART_OF_WORD = re.compile("[\u1100-\u11ffヽヾゝゞ]")
"""What never stands alone: a consonant or vowel of a Hangul syllable, a mark that repeats the kana before it."""
_SMILE = "ツ"
"""A letter that is a face by itself: (ツ)."""
_MOUTHS = frozenset("ДдЖжЗзЁёЭэФфЮюОоБбεвцшшエェｴｪロﾛﾒメャｬワヮヘ皿益血口人艸川州罒三旦且")
"""Letters that are drawn in a face, as a mouth, a nose or cheeks, or as what it holds."""
_STRETCH, _LEAST_SIGNS = 12, 4
"""Characters on either side of a letter that are examined for a drawing, and its least number of signs."""
_LINES, _EDGES = frozenset("^`;*'_~=<>|/\\#-()"), frozenset("()（）|")
"""Signs that a drawing has besides those that text does not have; and those of which it has at least one."""
_MOST_ARMS = 6
"""Maximum number of arms and drawn signs in a row."""
_LATIN_EYES = frozenset("TtQqOoUuXx")
"""Letters that are drawn as eyes beside a mouth that is a dash or a line: (T-T)."""
_HALF_WIDTH_KANA = re.compile("[\uff66-\uff9f]")
_EYES = re.compile(r"(?<!\w)(\w)(\w)\1(?!\w)")
_SAME_EYES = re.compile(r"([^\W\d_])_\1")
_EYE_MARKS = frozenset("´`｀′‵ﾟ゜°'")
"""Signs that are eyes on both sides of a letter even if they differ: ´Д｀."""
_VOICE_MARKS = frozenset("゛゜")
"""Marks of kana that are drawn as eyes, too: ゜ロ゜."""
_NEVER = -1


def drawing(run: Run, text: str, *, is_end: bool) -> Drawing:
    """Return whether a run of letters belongs to a face that is drawn with signs.

    A face is in brackets and has no two letters of one script side by side, but at least two signs that text does not
    have, or twice the same one around a letter. Its nose may be in brackets of its own. Beside its brackets there may
    be arms, and kana of half width, and behind them a single letter of any kind. Without brackets, or beside words in
    them, (見て・д・), letters of rare scripts beside a sign are eyes, ಠ_ಠ, and so are equal signs around a mouth, °Д°.
    Marks without a letter are drawn, and so are letters that faces have behind one of several signs, |Д´)/.

    Args:
        run: the letters, of another script than Latin.
        text: the text.
        is_end: whether the text is complete.
    """
    start, end = _with_sound(run, text)
    if end - start > LONGEST_SOUND:
        return "written"
    is_sound = _HALF_WIDTH_KANA.match(text, start) is not None
    is_single = sum(not _is_mark(char) and char not in _VOICE_MARKS for char in run.text) <= 1
    is_arm = _ARMS.issuperset(run.text)
    are_eyes = _are_eyes(run.text) or (not is_end and run.end == len(text) and _may_be_eyes(run.text))
    if not (is_single or is_sound or is_arm or run.script in _DRAWN_ALONE or are_eyes):
        return "written"
    verdicts = _around(text, start, end, is_end)
    if is_sound or is_arm:
        verdicts += _beside(text, start, end, is_end)
    if run.script in _DRAWN_ALONE:
        signs = (text[run.start - 1 : run.start], text[run.end : run.end + 1])
        is_eye = any(sign == "_" or (sign and _is_sign(sign)) for sign in signs)
        verdicts.append("drawn" if is_eye else "open" if end == len(text) and not is_end else "written")
    if is_single:
        verdicts.append(_single(run, text, is_end))
        if run.text in _ARMS or run.text[0] in _MOUTHS:
            verdicts.append(_in_drawing(run, text, is_end))
    return "drawn" if "drawn" in verdicts else "open" if "open" in verdicts else "written"


def _around(text: str, start: int, end: int, is_end: bool) -> list[Drawing]:
    """Return the verdicts on the brackets around letters, and on those around the brackets of a nose."""
    opening = _opening_before(text, start)
    if opening == _NEVER:
        return []
    verdicts = [_face(text, opening, is_end)]
    if opening == start - 1 and text[end : end + 1] in tuple(_CLOSING):
        outer = _opening_before(text, opening)
        verdicts += [_face(text, outer, is_end)] if outer != _NEVER else []
    return verdicts


def _single(run: Run, text: str, is_end: bool) -> Drawing:
    """Return the verdict on a single letter, or on marks alone, by what is directly before it.

    What comes behind it is only waited for where something drawn is before it: others are certain at once.
    """
    before, after = text[run.start - 1 : run.start], text[run.end : run.end + 1]
    may_grow = run.end == len(text) and not is_end
    if all(map(_is_mark, run.text)) and before and not before.isalpha():
        return "open" if may_grow else "drawn"
    if _PART_OF_WORD.fullmatch(run.text) or _follows_marks(text, run.start):
        return "open" if may_grow else "drawn"
    are_eyes = before == after or {before, after} <= _EYE_MARKS
    if before and (_is_drawn(before) or script_of(before) in _DRAWN_ALONE) and (may_grow or are_eyes):
        return "open" if may_grow else "drawn"
    if run.script in _DRAWN_ALONE and (verdict := _twins(run, text, is_end)) != "written":
        return verdict
    if after.isalnum() or "drawn" not in _face_before(text, _without_arms(text, run.start, -1), is_end):
        return "written"
    return "open" if may_grow else "drawn"


def _follows_marks(text: str, start: int) -> bool:
    """Return whether marks that are on no letter, or drawn over one, are directly before `start`."""
    base = start - 1
    while base > 0 and _is_mark(text[base]):
        base -= 1
    is_drawn_over = _OVERLAID.search(text, base + 1, start) is not None
    return 0 <= base < start - 1 and (is_drawn_over or not text[base].isalpha())


def _twins(run: Run, text: str, is_end: bool) -> Drawing:
    """Return whether a letter is one of two equal ones around a mouth, without further letters beside them."""
    size = len(run.text)
    for start in (run.start, run.start - 1 - size):
        mid, end = start + size, start + 2 * size + 1
        mouth, second = text[mid : mid + 1], text[mid + 1 : end]
        if start < 0 or text[start:mid] != run.text or not run.text.startswith(second) or mouth.isspace():
            continue
        if end >= len(text) and not is_end:
            return "open"
        beside = text[max(start - 1, 0) : start] + text[end : end + 1]
        if second == run.text and not any(map(_is_of_name, beside)):
            return "drawn"
    return "written"


def _in_drawing(run: Run, text: str, is_end: bool) -> Drawing:
    """Return whether a letter stands behind and before signs that draw half a face, without words between: |Д´)/.

    Signs behind the next letter do not count, since that letter may be a confusion.
    """
    left = text[max(run.start - _STRETCH, 0) : run.start][::-1]
    right = text[run.end : run.end + _STRETCH]
    before = left[: next((index for index, char in enumerate(left) if _is_of_words(char)), len(left))]
    after = right[: next((index for index, char in enumerate(right) if char.isalnum() or char == "\n"), len(right))]
    if not any(map(_draws, before)):
        return "written"
    signs = [char for char in before + after if _draws(char)]
    if len(signs) >= _LEAST_SIGNS and any(map(_is_eye, signs)) and not _EDGES.isdisjoint(signs):
        return "open" if run.end == len(text) and not is_end else "drawn"
    return "open" if len(after) == len(right) < _STRETCH and not is_end else "written"


def _is_of_words(char: str) -> bool:
    """Return whether a character ends a drawing: a line break, a digit, a letter that faces do not have."""
    is_drawn = char in _ARMS or char in _MOUTHS or script_of(char) in ("Greek", "Common")
    return char == "\n" or char.isdigit() or (char.isalpha() and not is_drawn)


def _draws(char: str) -> bool:
    """Return whether a character may be a line of a drawing."""
    return char in _LINES or (not char.isascii() and _is_sign(char))


def _is_of_name(char: str) -> bool:
    return char.isalnum() or char == "_"


def _is_drawn(char: str) -> bool:
    """Return whether a sign is drawn even without brackets around it."""
    return char == "^" or (not char.isascii() and _is_sign(char))


def _are_eyes(letters: str) -> bool:
    """Return whether three letters are two equal eyes and a mouth, as no word is written: ΦωΦ, ㅇㅅㅇ, の人の."""
    eyes = _EYES.fullmatch(letters)
    if eyes is None:
        return False
    eye, mouth = eyes.groups()
    is_of_both = script_of(eye) != script_of(mouth)
    return is_of_both or (eye.isupper() and mouth.islower()) or "ㄱ" <= eye <= "ㆎ" or mouth in "っッ"


def _may_be_eyes(letters: str) -> bool:
    """Return whether the last two letters become eyes and a mouth if the first one comes again."""
    return len(letters) > 1 and _are_eyes(letters[-2:] + letters[-2])


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
    closing, inside = opening + 1, ""
    while closing < last and text[closing] not in _CLOSING and text[closing] != "\n":
        if text[closing] in _OPENING and text[closing + 2 : closing + 3] in tuple(_CLOSING):
            closing, inside = closing + 3, inside + text[closing + 1]
        else:
            closing, inside = closing + 1, inside + text[closing]
    inside = _EYES.sub(lambda eyes: "^_^" if _are_eyes(eyes[0]) else eyes[0], inside)
    may_grow = closing == len(text) and not is_end
    if _has_word(inside) and not (may_grow and _may_be_eyes(inside)):
        return "written"
    if may_grow:
        return "open"
    if closing >= last or text[closing] == "\n":
        return "written"
    return "drawn" if text[opening] in _DRAWN_BRACKETS or _has_eyes(inside) else "written"


def _is_mouth(text: str, index: int) -> bool:
    """Return whether a letter in brackets is a mouth: between two signs, and not between two words."""
    left, right = index - 1, index + 1
    if not (_is_letter(text[index]) and _is_eye(text[left]) and _is_eye(text[right])):
        return False
    while _is_eye(text[left]):
        left -= 1
    while _is_eye(text[right]):
        right += 1
    return not (text[left].isalnum() and text[right].isalnum())


def _is_eye(char: str) -> bool:
    return _is_sign(char) and char not in _OPENING + _CLOSING


def _has_word(inside: str) -> bool:
    """Return whether two letters that one word may have stand side by side; so does what nobody draws with.

    Arms side by side do not count, nor does a capital behind a small letter, as in (oT-T).
    """
    if not inside.isprintable():
        return True
    letters = [(char, script_of(char) if _is_letter(char) else "Common") for char in inside if not _is_mark(char)]
    return any(
        (script == following_script not in ("Common", *_DRAWN_ALONE) and not _ARMS.issuperset((char, following)))
        or (script != following_script and {script, following_script} <= {*_JAPANESE} and not {char, following} & _ARMS)
        for (char, script), (following, following_script) in pairwise(letters)
        if not (char.islower() and following.isupper())
    )


def _has_eyes(inside: str) -> bool:
    """Return whether something in a bracket without words is drawn: two signs, or the same one around a letter."""
    drawn = [char for char in inside if not _is_mark(char)]
    # A sign with a mark of a letter on it is an eye with its brow: •̀ and '̀.
    brows = sum(_is_mark(mark) and not char.isalnum() for char, mark in pairwise(inside))
    arms = sum(side in ("/", "\\") for side in (inside[:1], inside[-1:]))
    if sum(_is_sign(char) or char in _ARMS for char in drawn) + brows + arms >= 2:
        return True
    if (
        inside.strip() == _SMILE
        or _SAME_EYES.fullmatch(inside.strip())
        or "_ _" in inside
        or "__" in inside
        or any(script_of(char) in _DRAWN_ALONE for char in drawn)
    ):
        return True
    return any(
        left == right != mouth
        and left not in _NOT_BESIDE
        and not left.isdigit()
        and (_is_letter(mouth) or _is_sign(mouth) or (mouth in "_.-" and _may_be_eye(left, mouth)))
        for left, mouth, right in zip(*(map(_without_accent, drawn[skip:]) for skip in range(3)), strict=False)
    )


def _may_be_eye(char: str, mouth: str) -> bool:
    """Return whether a character is drawn on both sides of a mouth that is a dash, a line or a dot: T-T, ._."""
    return char in _LATIN_EYES or (mouth != "-" and not char.isalpha())


def _beside(text: str, start: int, end: int, is_end: bool) -> list[Drawing]:
    """Return the verdicts on the faces to the left and to the right of arms or sounds, if there are any."""
    behind = end + 1 if text[end : end + 1] == " " else end
    before = start - 1 if text[start - 1 : start] == " " else start
    return [
        *_face_behind(text, _without_arms(text, behind, 1), is_end),
        *_face_before(text, _without_arms(text, before, -1), is_end),
    ]


def _without_arms(text: str, position: int, step: Literal[1, -1]) -> int:
    """Return the position behind (1) or before (-1) the arms and the drawn signs at a position: (∩´∀`)∩ﾜｰｲ."""
    for _ in range(_MOST_ARMS):
        index = position if step == 1 else position - 1
        if not 0 <= index < len(text) or text[index] in _OPENING + _CLOSING:
            break
        if not (text[index] in _ARMS or text[index] in "-.,_/\\" or _is_drawn(text[index])):
            break
        position += step
    return position


def _face_behind(text: str, position: int, is_end: bool) -> list[Drawing]:
    """Return the verdict on the face that begins at a position, if there is one."""
    if position < len(text) and text[position] in _OPENING:
        return [_face(text, position, is_end)]
    return ["open"] if position == len(text) and not is_end else []


def _face_before(text: str, position: int, is_end: bool) -> list[Drawing]:
    """Return the verdict on the face that ends before a position, if there is one; it may have words beside it."""
    if position == 0 or text[position - 1] not in _CLOSING:
        return []
    opening = _opening_before(text, position - 1)
    if opening == _NEVER:
        return []
    is_beside_words = any(_is_mouth(text, index) for index in range(opening + 2, position - 2))
    return ["drawn"] if is_beside_words else [_face(text, opening, is_end)]


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
