"""Texts come along as bytes of one length, and are never taken for pixels."""

import numpy as np
import pytest

from jaxgan import data
from jaxgan.data import DataOptions, Feature, as_source, texts
from jaxgan.errors import UserError
from jaxgan.examples import scaled

WORDS = ["a dog", "", "zw\u00f6lf B\u00e4ren", "\u72ac\u732b"]


@pytest.mark.parametrize(
    "given",
    [
        {"text": np.array(WORDS), "x": np.arange(4)},
        {"text": WORDS, "x": np.arange(4)},
        {"text": np.array(WORDS, object), "x": np.arange(4)},
        {"text": np.array([word.encode() for word in WORDS]), "x": np.arange(4)},
        [{"text": word, "x": i} for i, word in enumerate(WORDS)],
        [{"text": word.encode(), "x": i} for i, word in enumerate(WORDS)],
    ],
)
def test_texts_of_arrays_and_sequences_are_the_same_bytes(given):
    source = as_source(given, text_bytes=20)
    assert source.features["text"] == Feature((20,), np.dtype(np.uint8))
    leaf = source.read(np.array([3, 0, 1, 2]))["text"]
    assert leaf.dtype == np.uint8 and data.texts_of(leaf) == [WORDS[i] for i in (3, 0, 1, 2)]


def test_texts_in_files_are_kept_like_all_else(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", text=np.array(WORDS), x=np.arange(4))
    options = DataOptions(file=str(tmp_path / "a.npz"), cache=str(tmp_path / "cache"))
    first, again = (data.open_source(options) for _ in range(2))
    assert first.features["text"].shape == (128,) and again.features == first.features
    assert data.texts_of(again.arrays["text"]) == WORDS


def test_long_texts_end_after_a_whole_character_which_is_told_once(capsys, monkeypatch):
    monkeypatch.setattr(texts, "_told", set())
    for length in range(1, 20):
        source = as_source([{"caption": word} for word in WORDS], text_bytes=length)
        for word, kept in zip(WORDS, data.texts_of(source.read(np.arange(4))["caption"])):
            assert (
                word.startswith(kept) and len(kept.encode()) > min(length, len(word.encode())) - 3
            )
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "caption: texts of more than 1 bytes are cut" in said


def test_texts_are_never_scaled_as_pixels_are():
    batch = {
        "text": np.full((2, 5), 255, np.uint8),
        "image": np.full((2, 4, 4, 1), 255, np.uint8),
        "label": np.full(2, 255, np.uint8),
    }
    taken = scaled(batch)
    assert {key: leaf.dtype.name for key, leaf in taken.items()} == {
        "text": "uint8",
        "image": "float32",
        "label": "uint8",
    }
    features = {key: Feature(leaf.shape[1:], leaf.dtype) for key, leaf in batch.items()}
    assert [key for key, feature in features.items() if feature.is_pixels] == ["image"]


def test_what_is_no_text_among_texts_is_refused():
    with pytest.raises(UserError, match="text of example 1 is int, the first one a text"):
        as_source([{"text": "a"}, {"text": 3}])
    with pytest.raises(UserError, match="text_bytes=0; give a whole number"):
        as_source([{"text": "a"}], text_bytes=0)
