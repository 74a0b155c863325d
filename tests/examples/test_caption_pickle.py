"""Captions in a pickle: plain ones are read, and nothing that would run code is."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict

import pytest

from examples.paper.lists.caption_pickle import read_caption_pickle


def test_plain_captions_of_any_protocol(tmp_path):
    captions = {"-4wsuPCjDBc_5_15": [["a", "squirrel", "eats"], ["a", "peanut"]], "x_1_2": ["a man é runs"]}
    expected = {"-4wsuPCjDBc_5_15": ["a squirrel eats", "a peanut"], "x_1_2": ["a man é runs"]}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "raw-captions.pkl").write_bytes(pickle.dumps(captions, protocol))
        assert read_caption_pickle(tmp_path / "raw-captions.pkl") == expected
    # Texts that Python 2 wrote.
    (tmp_path / "old.pkl").write_bytes(b"(dp0\nS'x_1_2'\np1\n(lp2\n(lp3\nS'a'\np4\naS'man'\np5\naas.")
    assert read_caption_pickle(tmp_path / "old.pkl") == {"x_1_2": ["a man"]}


class Harmful:
    def __reduce__(self):
        return os.system, ("echo harm > harmed",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Harmful()), r"texts and numbers alone: it holds a (posix|nt).system. A pickle may run code"),
        (pickle.dumps({"a": [Harmful()]}, 0), r"it holds a (posix|nt).system"),
        (pickle.dumps(OrderedDict(a=["b"])), "it holds a collections.OrderedDict"),
        (b"", "raw-captions.pkl is empty"),
        (b"\x80\x04\x8d" + b"\xff" * 7 + b"\x0f", "texts and numbers alone: .*(Error|exceeds)"),  # a wrong length
        (pickle.dumps({"a": None}), "has for a no list of captions: None"),
        (b"no pickle", "is not a pickle of lists"),
        (pickle.dumps({"a": ["b"]})[:-9], "is not a pickle of lists"),
        (pickle.dumps(["a"]), "must hold a dict from videos to captions, it holds a list"),
        (pickle.dumps({"a": [1]}), "has for a a caption that is neither a text nor a list of words: 1"),
    ],
)
def test_what_else_a_pickle_holds_is_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw-captions.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_caption_pickle(tmp_path / "raw-captions.pkl")
    assert not (tmp_path / "harmed").exists()
