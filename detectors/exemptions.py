"""What is no confusion although its letters are foreign: code, mathematics, addresses, units, readings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from detectors.lexicon import ENGLISH_WITH_ACCENT, FOREIGN_WORDS
from detectors.profile import Profile, phonetic_class
from detectors.runs import Run

# Scripts of signs and names: a word of these may be exempt.
WORD_SCRIPTS = ("Latin", "Greek")

_UNITS = (
    "kcal|cal|kJ|mAh|Ah|kWh|Wh|kW|MW|rpm|mph|kph|km|cm|mm|nm|μm|µm|um|dm|m|kg|mg|μg|µg|mcg|g|lbs|lb|oz|ml|mL|cl|dl|L|l|"
    "ms|ns|sec|s|min|mins|hrs|hr|h|in|ft|yd|mi|ha|a|px|pt|em|rem|dpi|fps|bps|kbps|hz|kb|mb|gb|tb|ppm|ppb|mol|mmol|"
    "dB|atm|bar|psi|eV|rad|am|pm|x|th|st|nd|rd|°C|°F"
)
_STOPS = r"\s<>\"'`、。，；！？：（）「」『』【】《》〈〉〔〕؟،؛"
_PATH = rf"(?:[/?#][^{_STOPS}]*)?"
_DOMAIN_ENDS = (
    "com|org|net|edu|gov|mil|int|info|io|ai|app|dev|co|biz|me|tv|kr|jp|cn|tw|hk|de|fr|uk|us|eu|ru|ae|sa|eg|"
    "py|js|ts|java|cpp|json|csv|tsv|txt|md|html|htm|css|xml|yaml|yml|toml|sql|sh|pdf|docx|xlsx|png|jpg|jpeg|gif|svg|mp3|"
    "mp4|zip|exe"
)
_ARGUMENT = r"(?:(?![A-Za-z]\ [A-Za-z])[\x20-\x27\x2a-\x7e]){0,60}"
_ARGUMENTS = rf"{_ARGUMENT}(?:\({_ARGUMENT}\){_ARGUMENT}){{0,2}}"
_NAME = r"(?<![A-Za-z0-9_.])[A-Za-z_][A-Za-z0-9_]{0,63}(?:\.[A-Za-z_][A-Za-z0-9_]{0,63}){0,4}"

# A span ends only where the text says so: what follows a match never undoes it (`unsettled_from` names the rest).
_SPANS = re.compile(
    rf"""
    (?=[A-Za-z0-9`$\\<_.%+¯-]) (?:
      (?P<url> (?:https?|ftp)://(?:[!-.0-;=?-~]+|[^/{_STOPS}]+){_PATH}
             | (?<![A-Za-z0-9_.@-])(?:[A-Za-z0-9-]{{1,63}}\.){{1,8}}(?:{_DOMAIN_ENDS})(?![A-Za-z0-9_-]){_PATH} )
    | (?P<email> (?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{{1,64}}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+ )
    | (?P<fence> ```.*?(?:```|\Z) )
    | (?P<code> (?P<tick>`+)[^\n]*?(?:(?P=tick)|$) )
    | (?P<display> \$\$.*?(?:\$\$|\n\n|\Z) | \\\(.*?(?:\\\)|\n\n|\Z) | \\\[.*?(?:\\\]|\n\n|\Z) )
    | (?P<math> \$(?=\S)(?:[^$\n]{{1,3}}|(?=[^$\n]*[\\^_=+*<>{{}}])[^$\n]+)(?<=\S)\$ )
    | (?P<command> \\(?:begin|end)\{{[a-z*]* | \\[A-Za-z]+ )
    | (?P<tag> </?[A-Za-z][^<>\n]* )
    | (?P<call> {_NAME}\((?:\s*
          | [A-Za-z](?:,\ ?[A-Za-z])*
          | (?=[^)\n]{{0,60}}[0-9_='"\[\]{{}}*+<>%(]){_ARGUMENTS})\) )
    | (?P<unit> [0-9]\s?(?:{_UNITS})(?:[/·](?:{_UNITS}))*(?![A-Za-z]) )
    | (?P<shrug> ¯\\{{0,2}}_\(ツ )
    )""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_EXEMPT_IN_ANY_SCRIPT = ("url", "shrug")
_OPEN_CALL = re.compile(rf"{_NAME}\({_ARGUMENTS}(?:\({_ARGUMENT})?\Z")
_TOKEN = re.compile(r"[A-Za-z0-9._%+@:/~#?&='’‐‑-]")

_PHONETIC = re.compile(f"[{phonetic_class()}]")
_LIST_MARK = re.compile(r"(?:x{0,3}(?:ix|iv|v?i{1,3}|v)|x{1,3})(?=[).])")
_ARTICLE_BEFORE = re.compile(r"[A-Za-z]{2} ")
_ARTICLE_AFTER = re.compile(r" [A-Za-z]{2}")
_ARTICLE_LOOKAHEAD = 3
_TONES = re.compile("[\u0300\u0301\u0304\u030c]")
_PINYIN = re.compile(
    r"""(?: (?: [bp](?:iao|ian|ang|eng|ing|ai|ei|ao|ou|an|en|in|ie|a|o|i|u)
      | m(?:iao|ian|ang|eng|ing|ai|ei|ao|ou|an|en|in|ie|iu|a|o|e|i|u)
      | f(?:ang|eng|ei|ou|an|en|a|o|u)
      | [dt](?:iao|ian|uan|ang|eng|ing|ong|ai|ei|ao|ou|an|en|ia|ie|iu|uo|ui|un|a|e|i|u)
      | [nl](?:iang|iao|ian|uan|ang|eng|ing|ong|ai|ei|ao|ou|an|en|in|ia|ie|iu|uo|un|ue|üe|a|e|i|u|ü)
      | (?:[gkh]|[zcs]h|r)(?:uang|uai|uan|ang|eng|ong|ai|ei|ao|ou|an|en|ua|uo|ui|un|a|e|i|u)
      | [jqx](?:iang|iong|iao|ian|uan|ing|in|ia|ie|iu|ue|un|i|u)
      | [zcs](?:uan|ang|eng|ong|ai|ei|ao|ou|an|en|uo|ui|un|a|e|i|u)
      | y(?:ang|ing|ong|uan|ao|ou|an|in|ue|un|a|o|e|i|u)
      | w(?:ang|eng|ai|ei|an|en|a|o|u)
      | ang|ai|ei|ao|ou|an|en|er|a|o|e )['’-]? )+""",
    re.VERBOSE,
)


class ExemptSpans:
    """Exempt spans of one text, found as far as they are asked for; ask from left to right."""

    def __init__(self, text: str) -> None:
        self._matches: Iterator[re.Match[str]] = _SPANS.finditer(text)
        self._start = self._end = 0
        self._kind: str | None = None

    def cover(self, run: Run) -> bool:
        """Whether the run begins in an exempt span; letters of other scripts than Latin and Greek only in addresses."""
        while self._end <= run.start:
            match = next(self._matches, None)
            if match is None:
                return False
            self._start, self._end, self._kind = match.start(), match.end(), match.lastgroup
        return self._start <= run.start and (run.script in WORD_SCRIPTS or self._kind in _EXEMPT_IN_ANY_SCRIPT)


def unsettled_from(text: str) -> int:
    """Where the part of `text` begins that more text may still make exempt: its last token, an open call or formula."""
    start = len(text)
    while start > 0 and _TOKEN.match(text[start - 1]):
        start -= 1
    line = text.rfind("\n") + 1
    for call in _OPEN_CALL.finditer(text, line):
        start = min(start, call.start())
    dollar = text.rfind("$", line)
    return start if dollar < 0 else min(start, dollar)


def is_settled(run: Run, text: str, settled: int) -> bool:
    """Whether nothing after `text`, of which the first `settled` characters are settled, can decide about the run."""
    return run.end < settled and (run.text != "a" or run.end + _ARTICLE_LOOKAHEAD <= len(text))


def is_exempt_word(run: Run, text: str, profile: Profile) -> bool:
    """Whether a finished Latin or Greek run is exempt by its letters and its nearest neighbours alone."""
    if run.script == "Greek":
        return len(run.text) <= 2
    word = unicodedata.normalize("NFKC", run.text).replace("’", "'").replace("‑", "-").replace("‐", "-")
    if any(char.isupper() for char in word) or _PHONETIC.search(run.text):
        return True
    if sum(char.isalpha() for char in word) == 1:
        return profile.english == "neutral" or not _is_article(run, text)
    if _LIST_MARK.match(text, run.start) and text[max(run.start - 1, 0)] in " \n\t(" + run.text[0]:
        return True
    # The end of a text may be the middle of a word: "und" of "under".
    if profile.english == "neutral" and (_is_english(word) or (word.isascii() and run.end == len(text))):
        return True
    return not word.isascii() and (_is_reading(word, profile) or _in_phonetic_brackets(run, text))


def _is_article(run: Run, text: str) -> bool:
    before = _ARTICLE_BEFORE.match(text, max(run.start - _ARTICLE_LOOKAHEAD, 0), run.start)
    return run.text == "a" and bool(before or _ARTICLE_AFTER.match(text, run.end))


def _is_english(word: str) -> bool:
    return word not in FOREIGN_WORDS if word.isascii() else word in ENGLISH_WITH_ACCENT


def _is_reading(word: str, profile: Profile) -> bool:
    letters = profile.language.romanisation
    if letters and all(char in letters for char in word if not char.isascii() and char.isalpha()):
        return True
    if not profile.language.pinyin:
        return False
    toneless = unicodedata.normalize("NFC", _TONES.sub("", unicodedata.normalize("NFD", word)))
    return _PINYIN.fullmatch(toneless) is not None


def _in_phonetic_brackets(run: Run, text: str) -> bool:
    before, after = text[max(run.start - 1, 0) : run.start], text[run.end : run.end + 1]
    return before in ("ˈ", "ˌ") or (before in ("/", "[") and after in ("/", "]"))
