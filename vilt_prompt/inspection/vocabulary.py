"""`nearest_tokens`: the words that are near to the text prompts.

Shapes: n prompt vectors, V tokens of the vocabulary, d_t the width of the text tower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vilt_prompt.adapter.layer import prompt_layer
from vilt_prompt.checks import check_count, is_readable
from vilt_prompt.inspection.description import prompt_names
from vilt_prompt.inspection.tables import Table
from vilt_prompt.model.prompted import prompted_model
from vilt_prompt.towers.families import known_tower, text_tower

WORD_END = "</w>"  # in vocabularies of CLIP's kind


class NearToken(NamedTuple):
    """A token of the vocabulary: its id, what it reads, and its Euclidean distance to a prompt vector."""

    token_id: int
    word: str
    distance: float


class PromptWords(NamedTuple):
    """The tokens nearest to one vector of a text prompt.

    Attributes:
        layer: The layer that the prompt enters, from 1.
        prompt: "P_i" or "F~(P~_i)", as `describe` says it.
        vector: Which of its n vectors, from 1.
        tokens: The nearest one first.
    """

    layer: int
    prompt: str
    vector: int
    tokens: tuple[NearToken, ...]


@dataclass(frozen=True, repr=False)
class NearestTokens(Table):
    """The nearest tokens of every text prompt. They print as a table, in a terminal and in a notebook.

    Attributes:
        adapter_name: The adapter whose prompts they are.
        vectors: One entry for each of n vectors of each layer that a fresh text prompt enters.
    """

    adapter_name: str
    vectors: tuple[PromptWords, ...]

    def _lines(self) -> Sequence[str]:
        found = ": the tokens nearest to each text prompt, with their Euclidean distances"
        return [f"adapter {self.adapter_name!r}{found if self.vectors else ' has no text prompts'}"]

    def _cells(self) -> Sequence[Sequence[str]]:
        if not self.vectors:
            return []
        rows = [["layer", "prompt", "vector", *(str(i + 1) for i in range(len(self.vectors[0].tokens)))]]
        for layer, prompt, vector, tokens in self.vectors:
            words = [f"{token.word} {token.distance:.3f}" for token in tokens]
            rows.append([str(layer), prompt, str(vector), *words])
        return rows


@torch.no_grad()
def nearest_tokens(wrapped: Any, tokenizer: Any, k: int = 5) -> NearestTokens:
    """Finds the k tokens whose embeddings are nearest to each vector of each text prompt, by Euclidean distance.

    A hint, as CoOp reads a context: prompts are not learned to be read, and from layer 2 on they stand among hidden
    states. It is the active adapter that is read, inside `use_adapter` the chosen one.

    Examples:
        >>> import open_clip, vilt_prompt
        >>> text = {"width": 32, "heads": 2, "layers": 2}
        >>> clip = open_clip.CLIP(16, {"width": 48, "head_width": 16, "layers": 2, "patch_size": 112}, text)
        >>> model = vilt_prompt.wrap(clip, method="coop", n_ctx=3, ctx_init="a photo of")
        >>> tokenizer = open_clip.SimpleTokenizer()
        >>> [row.tokens[0].word for row in vilt_prompt.nearest_tokens(model, tokenizer).vectors]
        ['a', 'photo', 'of']

    Args:
        wrapped: What `wrap` or `from_pretrained` returned; the open_clip object inside will do.
        tokenizer: The model's, `open_clip.get_tokenizer(...)`. A token of CLIP's that ends no word gets a hyphen.
        k: How many tokens for each vector, at most V.

    Raises:
        TypeError: If `wrapped` is no wrapped model, the tokenizer cannot decode, or k is no integer.
        ValueError: If k is out of range, the tokenizer another model's, no adapter active, or the model on the meta
            device.
    """
    model = prompted_model(wrapped)
    prompts = prompt_layer(model)
    name = prompts.current()
    decode, known = _decoder(tokenizer)
    check_count("k", k, optional=False)
    names = prompt_names(prompts.tables[name], "text", prompts.configs[name].mapper == "per_layer")
    fresh = [(i, p) for i, p in enumerate(prompts.tower_prompts("text"), start=1) if p is not None]
    if not fresh:
        return NearestTokens(name, ())
    embedding: Tensor = known_tower(text_tower(model)).embedding.weight  # [V d_t]
    if not is_readable(embedding):
        raise ValueError("the model is on the meta device, its embeddings have no values: load its weights first")
    vocabulary = len(embedding) if known is None else known
    if vocabulary > len(embedding):
        raise ValueError(
            f"the tokenizer has {vocabulary} ids, the model {len(embedding)}: is it the tokenizer of this model?"
        )
    if k > vocabulary:
        raise ValueError(f"k={k} is out of range: choose k in 1..{vocabulary}, the vocabulary's size")
    embedding = embedding[:vocabulary].float()
    vectors = []
    for layer, prompt in fresh:
        # Expanding the square would hide small distances behind large norms.
        distances = torch.cdist(prompt.float(), embedding, compute_mode="donot_use_mm_for_euclid_dist")  # [n V]
        nearest = distances.topk(int(k), largest=False)
        for vector, (values, ids) in enumerate(zip(nearest.values.tolist(), nearest.indices.tolist(), strict=True), 1):
            tokens = tuple(NearToken(i, decode(i), value) for i, value in zip(ids, values, strict=True))
            vectors.append(PromptWords(layer, names[layer - 1], vector, tokens))
    return NearestTokens(name, tuple(vectors))


def _decoder(tokenizer: Any) -> tuple[Callable[[int], str], int | None]:
    """What turns an id into a word, and how many ids it knows, if it says so."""
    # open_clip's SimpleTokenizer decodes; its other tokenizers hold one of transformers that does.
    holder: Any = tokenizer if callable(getattr(tokenizer, "decode", None)) else getattr(tokenizer, "tokenizer", None)
    if not callable(getattr(holder, "decode", None)):
        raise TypeError(
            "nearest_tokens needs a tokenizer with decode(ids), such as open_clip.get_tokenizer(...) returns, "
            f"got {type(tokenizer).__name__}"
        )
    # By word; two words may share an id, as CLIP's padding does.
    vocabulary = holder.get_vocab() if hasattr(holder, "get_vocab") else getattr(holder, "encoder", {})
    marks_ends = any(word.endswith(WORD_END) for word in vocabulary)

    def decode(token_id: int) -> str:
        word = str(holder.decode([token_id])).replace(WORD_END, " ")
        return word.strip() + ("-" if marks_ends and not word.endswith((" ", ">")) else "")

    return decode, max(vocabulary.values()) + 1 if vocabulary else None
