"""Text in other scripts and encodings: what is not read is counted and named, never lost without a word."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.data.data_folders import name_of, write_cub, write_image_folder
from tmgan.data.captions import lost_letters, tokenize, whole_words
from tmgan.data.sources.lines import read_lines, read_text
from tmgan.data.sources.read import read_source
from tmgan.data.vocabulary import Vocabulary
from tmgan.editing.editor import Editor

RED = "\u043a\u0440\u0430\u0441\u043d\u044b\u0439"  # "red" in Russian
CAFE = "caf\u00e9"


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("a red bird's 2nd_wing", []),
        (f"A {CAFE.upper()} bird, a {CAFE} bird", [("CAF\u00c9", "caf"), (CAFE, "caf")]),
        (f"a {RED}, {RED} head", [(RED, "")]),
        ("cafe\u0301s", [("cafe\u0301s", "cafe s")]),  # the accent is a character of its own
        ("\u9ce5!x\u00b2", [("\u9ce5", ""), ("x\u00b2", "x")]),
        ("small\ufffd\ufffdbird \u2013 \u201cred\u201d\ufffd", []),  # neither letters nor lost here
    ],
)
def test_words_that_lose_letters(text, lost):
    assert lost_letters(text) == lost
    kept = " ".join(word for word in whole_words(text) if word not in dict(lost))
    assert tokenize(kept) == [word.lower() for word in kept.split()]  # the others lose none


def test_an_edit_says_what_it_does_not_read():
    vocabulary = Vocabulary(("<end>", "a", "bird", "with", "red", "head", "caf"))
    editor = SimpleNamespace(encoders=SimpleNamespace(vocabulary=vocabulary))
    said = Editor.unknown_words(editor, f"a bird with a {RED} head")
    assert said == f"'{RED}' has none of the letters that are read, a to z"
    assert Editor.unknown_words(editor, f"a {CAFE} bird") == f"'{CAFE}' is read as 'caf'"
    said = Editor.unknown_words(editor, "a r\u00e9d head")
    assert said.startswith("'r\u00e9d' is read as 'rd'; 'rd' is unknown (nearest: red")
    assert Editor.unknown_words(editor, "a redd head").startswith("'redd' is unknown (nearest: red")
    assert Editor.unknown_words(editor, "a red head") == ""


def notes_of(source):
    return "\n".join(source.notes)


def test_what_captions_lose_is_counted_in_either_layout(tmp_path):
    captions = [f"a {CAFE} bird", f"a {CAFE} {RED} bird", RED]
    folder = write_image_folder(tmp_path / "f", [{"file_name": "0.png", "texts": captions}])
    said = notes_of(read_source(folder))
    assert "words of the captions that lose letters: 2, that vanish: 2" in said
    assert f"'{CAFE}' -> 'caf', '{RED}' -> ''" in said
    birds = write_cub(tmp_path / "b", count=2, test=(1,))
    (birds / "text" / f"{name_of(1)}.txt").write_text("\n".join(captions), "utf-8")
    source = read_source(birds)
    assert "words of the captions that lose letters: 2, that vanish: 2" in notes_of(source) and source.dropped == 1
    assert read_source(write_image_folder(tmp_path / "g", [{"file_name": "0.png", "text": "a bird"}])).notes == ()


def test_captions_in_another_script_are_refused(tmp_path):
    rows = [{"file_name": "0.png", "text": f"1 {RED} {RED} 2"}]
    assert read_source(write_image_folder(tmp_path / "half", rows)).items[0].captions
    rows.append({"file_name": "1.png", "text": f"{RED} red {RED}"})
    with pytest.raises(ValueError, match=f"in another script: of 4 of their 7 words, such as '{RED}', nothing is left"):
        read_source(write_image_folder(tmp_path / "more", rows))


LINES = ["a red bird", "", f"a {CAFE} bird"]
MARKS = {
    "utf-8": b"",
    "utf-8-sig": b"",
    "utf-16-le": b"\xff\xfe",
    "utf-16-be": b"\xfe\xff",
    "utf-32-le": b"\xff\xfe\0\0",
}


@pytest.mark.parametrize("encoding", MARKS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path, encoding, end):
    for last in ("", end):
        (tmp_path / "x").write_bytes(MARKS[encoding] + (end.join(LINES) + last).encode(encoding))
        assert [(line.number, line.text.strip(), line.damaged) for line in read_lines(tmp_path / "x")] == [
            (number, text, False) for number, text in enumerate(LINES, 1)
        ]


def test_a_carriage_return_within_a_line_ends_nothing(tmp_path):
    (tmp_path / "x").write_bytes(b"a\rb\nc")
    assert [line.text for line in read_lines(tmp_path / "x")] == ["a\rb", "c"]


def test_damaged_lines_are_marked_and_others_are_not(tmp_path):
    """As published: U+FFFD that was in the file is text, and bytes that are none become U+FFFD."""
    (tmp_path / "x").write_bytes("a\ufffdb\n".encode() + b"c\xffd \xe9\nlast")
    lines = read_lines(tmp_path / "x")
    assert [(line.text, line.damaged) for line in lines] == [
        ("a\ufffdb", False),
        ("c\ufffdd \ufffd", True),
        ("last", False),
    ]
    whole = (tmp_path / "x").read_bytes().decode(errors="replace").split("\n")
    assert [line.text for line in lines] == whole
    with pytest.raises(ValueError, match="not text"):
        read_text(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"\xff\xfe" + "ab\n".encode("utf-16-le") + b"\x00\xd8" + "\nc".encode("utf-16-le"))
    assert [line.damaged for line in read_lines(tmp_path / "x")] == [False, True, False]


def test_damaged_caption_lines_are_counted_with_the_first_place(tmp_path):
    birds = write_cub(tmp_path, count=3, test=(2,))
    texts = [birds / "text" / f"{name_of(number)}.txt" for number in range(3)]
    texts[1].write_bytes(b"a bird\na b\xffg bill\na \xff bird")
    texts[2].write_bytes(b"a \xff bird")
    source = read_source(birds)
    assert source.items[1].captions[1] == "a b\ufffdg bill"
    assert f"caption lines with bytes that are not UTF-8 (they split words): 3, the first in {texts[1]}, line 2" in (
        notes_of(source)
    )


def test_invisible_characters_split_words_and_are_counted():
    """Soft hyphens and zero-width spaces, as web pages have them: as published, they are read as spaces."""
    assert tokenize("a lit\u00adtle bi\u200brd") == ["a", "lit", "tle", "bi", "rd"]
    assert lost_letters("a lit\u00adtle bi\u200brd") == [("lit\u00adtle", "lit tle"), ("bi\u200brd", "bi rd")]
