"""`nearest_tokens`: the words of the vocabulary that are nearest to the text prompts.

Shapes: n prompt vectors, V tokens of the vocabulary, d_t the width of the text tower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vilt_prompt.adapter.layer import prompt_layer
from vilt_prompt.checks import check_count, is_readable
from vilt_prompt.inspection.description import prompt_names
from vilt_prompt.inspection.tables import Table
from vilt_prompt.model.prompted import prompted_model
from vilt_prompt.towers.families import known_tower, text_tower

WORD_END = "</w>"  # marks the last token of a word in CLIP's vocabulary


class NearToken(NamedTuple):
    """A token of the vocabulary: its id, its text, and its Euclidean distance to a prompt vector."""

    token_id: int
    word: str
    distance: float


class PromptWords(NamedTuple):
    """The tokens nearest to one vector of a text prompt.

    Attributes:
        layer: The layer that the prompt enters, from 1.
        prompt: "P_i" or "F~(P~_i)", the name that `describe` gives it.
        vector: Which of the prompt's n vectors, from 1.
        tokens: The nearest tokens, by increasing distance.
    """

    layer: int
    prompt: str
    vector: int
    tokens: tuple[NearToken, ...]


@dataclass(frozen=True, repr=False)
class NearestTokens(Table):
    """The tokens nearest to every text prompt. It prints as a table, in a terminal and in a notebook.

    Attributes:
        adapter_name: The name of the adapter.
        vectors: One entry for each of the n vectors of each text prompt.
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
def nearest_tokens(wrapped: nn.Module, tokenizer: object, k: int = 5) -> NearestTokens:
    """Find the k tokens whose embeddings are nearest to each vector of each text prompt, by Euclidean distance.

    This is how the CoOp paper looks at its context vectors. It is only a hint: nothing in training makes prompts
    readable, and from layer 2 on they are joined to hidden states, not to embeddings. The active adapter is read, or
    inside `with model.use_adapter(name)` that adapter.

    Examples:
        >>> import open_clip, vilt_prompt
        >>> vision = {"width": 48, "head_width": 16, "layers": 2, "patch_size": 112}
        >>> text = {"width": 32, "heads": 2, "layers": 2}
        >>> clip = open_clip.CLIP(16, vision, text)
        >>> model = vilt_prompt.wrap(clip, method="coop", n_ctx=3, ctx_init="a photo of")
        >>> tokenizer = open_clip.SimpleTokenizer()
        >>> nearest = vilt_prompt.nearest_tokens(model, tokenizer)
        >>> [row.tokens[0].word for row in nearest.vectors]
        ['a', 'photo', 'of']

    Args:
        wrapped: A model that `wrap` or `from_pretrained` returned, or the open_clip model inside it.
        tokenizer: The model's tokenizer, `open_clip.get_tokenizer(...)`. With CLIP's tokenizer, a token that does not
            end a word is shown with a hyphen.
        k: How many tokens to find for each vector, 1..V.

    Returns:
        The nearest tokens, which print as a table. It has no rows if the adapter has no text prompts.

    Raises:
        TypeError: If `wrapped` is not a wrapped model, the tokenizer cannot decode ids, or k is not an integer.
        ValueError: If k is out of range, the tokenizer has more ids than the model, no adapter is active, or the model
            is on the meta device.
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
            f"the tokenizer has {vocabulary} ids, the model {len(embedding)}: use the tokenizer of this model"
        )
    if k > vocabulary:
        raise ValueError(f"expected k in 1..{vocabulary} (the number of tokens in the vocabulary), got {k}")
    embedding = embedding[:vocabulary].float()
    vectors = []
    for layer, prompt in fresh:
        # The faster way, by a matrix product, loses small distances between vectors of large norm to rounding.
        distances = torch.cdist(prompt.float(), embedding, compute_mode="donot_use_mm_for_euclid_dist")  # [n V]
        nearest = distances.topk(int(k), largest=False)
        for vector, (values, ids) in enumerate(zip(nearest.values.tolist(), nearest.indices.tolist(), strict=True), 1):
            tokens = tuple(NearToken(i, decode(i), value) for i, value in zip(ids, values, strict=True))
            vectors.append(PromptWords(layer, names[layer - 1], vector, tokens))
    return NearestTokens(name, tuple(vectors))


def _decoder(tokenizer: object) -> tuple[Callable[[int], str], int | None]:
    """Return a function that decodes an id to a word, and the number of ids, or None if the tokenizer has no list."""
    # open_clip's SimpleTokenizer can decode. Its other tokenizers hold a tokenizer of transformers that can.
    holder: Any = tokenizer if callable(getattr(tokenizer, "decode", None)) else getattr(tokenizer, "tokenizer", None)
    if not callable(getattr(holder, "decode", None)):
        raise TypeError(
            "nearest_tokens needs a tokenizer with decode(ids), such as open_clip.get_tokenizer(...) returns, "
            f"got {type(tokenizer).__name__}"
        )
    # From words to ids. Two words may have the same id, as CLIP's padding and end token do.
    vocabulary = holder.get_vocab() if hasattr(holder, "get_vocab") else getattr(holder, "encoder", {})
    marks_ends = any(word.endswith(WORD_END) for word in vocabulary)

    def decode(token_id: int) -> str:
        word = str(holder.decode([token_id])).replace(WORD_END, " ")
        return word.strip() + ("-" if marks_ends and not word.endswith((" ", ">")) else "")

    return decode, max(vocabulary.values()) + 1 if vocabulary else None
