"""A pack in the words of encoders that are trained already: their ids, and what they do not know is left out."""

from __future__ import annotations

import json
import pickle

import pytest

from tests.data.data_folders import write_image_folder
from tests.data.test_sources import write_caption_pickle, write_cub
from tmgan.cli import main
from tmgan.data.doctor import examine
from tmgan.data.given_words import GivenWords, in_words
from tmgan.data.pack import Pack, read_header
from tmgan.data.prepare import prepare
from tmgan.data.sources.read import read_source
from tmgan.data.vocabulary import Vocabulary
from tmgan.models.bundle import save_encoders

WORDS = ("<end>", "wings", "blue", "bird", "a", "red")
ROWS = [
    {"file_name": "0.png", "texts": ["A red bird", "azure wings"], "split": "train"},
    {"file_name": "1.png", "texts": ["a blue, blue bird", "azure plumage"], "split": "train"},
    {"file_name": "2.png", "texts": ["a bird"], "split": "test"},
]


@pytest.fixture
def words(tmp_path):
    file = tmp_path / "captions.pickle"
    file.write_bytes(pickle.dumps([[], [], dict(enumerate(WORDS)), {word: n for n, word in enumerate(WORDS)}]))
    return file


def given(file):
    return GivenWords(Vocabulary(WORDS), file)


def make(source, pack, *options):
    main(["data", "prepare", str(source), str(pack), "--image-size", "64", "--workers", "1", *map(str, options)])
    return Pack.open(pack)


def test_captions_get_the_ids_of_the_given_words(tmp_path, words, capsys):
    folder = write_image_folder(tmp_path / "source", ROWS)
    pack = make(folder, tmp_path / "pack", "--vocabulary", words)
    assert pack.vocabulary.words == WORDS and pack.first.tolist() == [0, 2, 3, 4]
    assert [row[row != 0].tolist() for row in pack.tokens] == [[4, 5, 3], [1], [4, 2, 2, 3], [4, 3]]
    said = capsys.readouterr().err
    assert f"words that {words} does not know, left out of the captions: 3 of 13, 2 different ones" in said
    assert "'azure' (2), 'plumage' (1)" in said and f"captions without a word that {words} knows, left out: 1" in said
    assert pack.header["vocabulary_from"] == str(words) and pack.header["vocabulary_given"] is True


def test_an_image_without_a_known_word_cannot_be_used(tmp_path, words):
    rows = [*ROWS, {"file_name": "3.png", "texts": ["azure plumage"], "split": "train"}]
    source = in_words(read_source(write_image_folder(tmp_path / "source", rows)), given(words))
    problems = {item.name: item.problem for item in source.items if item.problem}
    assert problems == {"3.png": f"no caption has a word that {words} knows"}
    alone = read_source(write_image_folder(tmp_path / "alone", rows[-1:]))
    with pytest.raises(ValueError, match="no caption has a word that .*captions.pickle knows .it has 6."):
        in_words(alone, given(words))


def test_the_words_are_part_of_what_a_pack_is(tmp_path, words):
    folder, pack = write_image_folder(tmp_path / "source", ROWS), tmp_path / "pack"
    make(folder, pack, "--vocabulary", words)
    make(folder, pack, "--vocabulary", words)  # the same again
    with pytest.raises(SystemExit):
        make(folder, pack)
    with pytest.raises(ValueError, match=f"is another pack .its words are those of {words}, of --vocabulary"):
        prepare(folder, pack, image_size=64, workers=1, progress=False)
    prepare(folder, tmp_path / "own", image_size=64, workers=1, progress=False)
    with pytest.raises(ValueError, match="is another pack .it was made without --vocabulary"):
        prepare(folder, tmp_path / "own", image_size=64, workers=1, progress=False, vocabulary=given(words))
    assert Pack.open(tmp_path / "own").hash != Pack.open(pack).hash
    assert "vocabulary_from" not in read_header(tmp_path / "own")
    with pytest.raises(ValueError, match=f"--image-size 128 --placement centre --vocabulary {words}"):
        Pack.open(pack, image_size=128)
    assert any(finding.text == f"its words are those of {words}" for finding in examine(pack))


def test_the_words_of_a_run(tmp_path, encoders, pack, birds, capsys):
    """Its encoders then take the pack as it is, and so does what is told to do next."""
    run = tmp_path / "run"
    run.mkdir()
    save_encoders(encoders, run)
    ours = make(write_image_folder(tmp_path / "source", ROWS), tmp_path / "pack", "--vocabulary", run)
    assert ours.vocabulary == encoders.vocabulary == pack.vocabulary
    assert ours.caption(0) == "a red bird"
    assert f"Next: tmgan train --encoders {run} --data {tmp_path / 'pack'}" in capsys.readouterr().out
    (run / "generator.safetensors").touch()
    make(tmp_path / "source", tmp_path / "pack", "--vocabulary", run)
    assert f"Next: tmgan train --from {run} --data" in capsys.readouterr().out


def test_the_words_replace_those_of_a_captions_pickle(tmp_path, words):
    folder = write_cub(tmp_path / "birds")
    write_caption_pickle(folder)
    made = make(folder, tmp_path / "pack", "--vocabulary", words)
    assert made.vocabulary.words == WORDS and made.caption(0) == "a bird"


def empty_run(file):
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.unlink(), "There is no {}: --vocabulary is a run folder with encoders"),
        (lambda file: file.write_text(json.dumps(WORDS)), "{}: not a readable pickle of metadata"),
        (empty_run, "There is no {}/encoders.safetensors"),
    ],
)
def test_a_place_without_words_is_refused(tmp_path, words, capsys, spoil, message):
    folder = write_image_folder(tmp_path / "source", ROWS)
    spoil(words)
    with pytest.raises(SystemExit):
        make(folder, tmp_path / "pack", "--vocabulary", words)
    assert message.format(words) in capsys.readouterr().err and not (tmp_path / "pack").exists()
