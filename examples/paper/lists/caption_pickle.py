"""Captions in a pickle, as CLIP4Clip distributes MSVD's, read without running code from the pickle."""

import pickle
from pathlib import Path
from typing import Any


class _PlainUnpickler(pickle.Unpickler):
    """Builds lists, dicts, tuples, texts and numbers; everything else needs a class or function, and is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it holds a {module}.{name}")


def read_caption_pickle(file: Path) -> dict[str, list[str]]:
    """Reads the captions of each video.

    Args:
        file: A pickled dict from the name of a video to its captions, each a text or a list of words.

    Raises:
        ValueError: The file is damaged, holds something else, or holds an object that would have to run code.
    """
    if not file.stat().st_size:
        raise ValueError(f"{file} is empty")
    try:
        with file.open("rb") as stream:
            # Texts of Python 2 are bytes in a pickle.
            content = _PlainUnpickler(stream, encoding="utf-8").load()
    except Exception as error:  # A damaged pickle raises many kinds: a wrong length, for example, a MemoryError.
        cause = str(error) or type(error).__name__
        raise ValueError(
            f"{file} is not a pickle of lists, dicts, texts and numbers alone: {cause}. A pickle may run code when it "
            "is read, so nothing else is; if you trust it, write its captions to a CSV file video,caption,split"
        ) from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{file} must hold a dict from videos to captions, it holds a {type(content).__name__}")
    for video, own in content.items():
        if not isinstance(own, list | tuple):
            raise ValueError(f"{file} has for {video} no list of captions: {own!r:.80}")
    return {str(video): [_caption(file, video, caption) for caption in own] for video, own in content.items()}


def _caption(file: Path, video: object, caption: object) -> str:
    if isinstance(caption, str):
        return caption
    if isinstance(caption, list | tuple) and all(isinstance(word, str) for word in caption):
        return " ".join(caption)
    raise ValueError(f"{file} has for {video} a caption that is neither a text nor a list of words: {caption!r:.80}")
