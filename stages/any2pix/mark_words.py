"""The words, numbers and brackets with which people write marks, and how a misspelt one is distinguished from text."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

KIND_WORDS = {  # also with a plural s; the first is the mark's own word
    "image": (
        "image", "img", "picture", "pict", "pic", "photograph", "photo", "bild", "foto",
        "图片", "图像", "图", "圖片", "圖像", "影像", "照片", "相片", "画像", "写真", "이미지", "사진",
        "изображение", "картинка",
        "фото",
    ),
    "audio": (
        "audio", "aud", "sound", "snd", "wav", "clip", "son", "sonido",
        "音频", "音頻", "声音", "聲音", "音訊", "音声", "音", "オーディオ", "오디오", "소리", "звук", "аудио",
    ),
    "text": ("text", "txt", "texte", "texto", "文本", "文字", "テキスト", "텍스트", "текст"),
}  # fmt: skip
BARE_WORDS = (
    "image",
    "img",
    "picture",
    "pic",
    "photo",
    "audio",
    "sound",
    "text",
)  # with a number behind, no English word
SPOKEN_WORDS = ("image", "picture", "photo", "audio", "sound", "图片", "图像", "图", "照片", "音频", "声音")
TYPED_WORDS = ("image", "picture", "photo", "audio", "sound", "text")  # what a slip of the keyboard is compared with
LONG_WORD = 7  # letters from which on two slips are forgiven
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
CHINESE_NUMBERS = "一二三四五六七八九十"
# "a picture 1 metre wide", "照片2张": what counts or measures is no number of a mark.
UNITS = (
    r"\s*(?:%|x\d|[x×]\s|(?:m|cm|mm|km|px|s|sec|min|h|kg|k|mb|met(?:re|er)s?|inch(?:es)?|in\.|f(?:oo|ee)t|pixels?"
    r"|seconds?|minutes?|hours?|years?|times)\b|[张張个個幅段米秒条條份种種])"
)

SQUARE = "[［【〔〖「『]］】〕〗」』"  # nobody writes a kind and a number in these and means text
OPENING, CLOSING = "[［【〔〖「『({<（｛〈《«", "]］】〕〗」』)}>）｝〉》»"
# Full-width letters, digits and brackets as plain ones, one for one: a place in the folded text is the same place in
# the text.
FOLDED = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFF01, 0xFF5F)} | {0x3000: " "}
# Blanks that the eye does not see, as web pages and messengers put them in.
BLANK = r"[\s\u00ad\u200b-\u200f\u2060\ufeff]"
GAP = rf"(?:{BLANK}|[#_:：.,№-]|no\.?|nr\.?){{0,4}}"


def either(words: Iterable[str]) -> str:
    """A regular expression for any of the words, the longest that fits."""
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


KIND_OF = {word: kind for kind, words in KIND_WORDS.items() for word in words}
WORD = rf"(?P<word>{either(KIND_OF)})s?"
NUMBER = rf"(?P<number>\d{{1,9}}|{either(NUMBERS)}|[{CHINESE_NUMBERS}])"
ORDINAL = rf"(?:第?(?P<number>\d{{1,9}}|{either(ORDINALS)}|[{CHINESE_NUMBERS}])(?:st|nd|rd|th|\.)?[张張个個幅段]?)"
CASE = re.IGNORECASE
NAMED = re.compile(rf"{WORD}{GAP}{NUMBER}", CASE)
NAMED_FIRST = re.compile(rf"{ORDINAL}{GAP}{WORD}", CASE)
NAMED_AND_MORE = re.compile(rf"{WORD}{BLANK}+(?P<number>\d{{1,9}})(?!\w)(?!{UNITS})", CASE)
KIND_ALONE = re.compile(WORD, CASE)
WORD_AND_NUMBER = re.compile(rf"(?P<word>[^\W\d_]{{2,12}})(?P<gap>{GAP})(?P<number>\d{{1,9}})")


@dataclass(frozen=True)
class Named:
    """What a piece of text names: a modality and, where it says one, a number counted from 1."""

    kind: str
    number: int | None


def read_named(inner: str) -> Named | None:
    """What stands between brackets, folded -> what it names, None where it is other text."""
    if match := NAMED.fullmatch(inner) or NAMED_FIRST.fullmatch(inner):
        return Named(kind_of(match["word"]), number_of(match["number"]))
    if match := KIND_ALONE.fullmatch(inner):
        return Named(kind_of(match["word"]), None)
    return None


def read_slip(inner: str, spaced: bool) -> Named | None:
    """The same for a word that one slip of the keyboard tells from a mark's: "iamge1". ``spaced``: also "iamge 1"."""
    match = WORD_AND_NUMBER.fullmatch(inner)
    if match is None or (match["gap"] and not spaced):
        return None
    word = match["word"].lower()
    for meant in TYPED_WORDS:
        if slips(word, meant) <= (2 if len(meant) >= LONG_WORD else 1):
            return Named(KIND_OF[meant], int(match["number"]))
    return None


def kind_of(word: str) -> str:
    return KIND_OF[word.lower()]


def number_of(text: str) -> int:
    """ "2", "２", "two", "second" or "二" -> 2."""
    text = text.lower()
    for names in (NUMBERS, ORDINALS, CHINESE_NUMBERS):
        if text in names:
            return names.index(text) + 1
    return int(text)


def slips(word: str, meant: str) -> int:
    """Letters added, left out, changed, or swapped with their neighbour between two words (optimal string
    alignment)."""
    before, row = [], list(range(len(meant) + 1))
    for i, letter in enumerate(word, start=1):
        before, last, row = row, before, [i]
        for j, other in enumerate(meant, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == meant[j - 2] and word[i - 2] == other:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
