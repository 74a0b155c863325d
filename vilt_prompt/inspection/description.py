"""Looking inside: where the prompt of every layer comes from, and which words are near it.

Shapes: n prompt vectors, V tokens of the vocabulary, d the width of a tower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby, zip_longest
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vilt_prompt.checks import check_count, is_readable
from vilt_prompt.model.prompted import prompted_model
from vilt_prompt.prompts import PromptLayer, PromptTable
from vilt_prompt.towers.families import text_tower

SYMBOLS = {"text": ("P", "F"), "vision": ("P~", "F~")}  # a tower's prompts, and the map out of it
CARRIED = "carried"
NOTHING = "-"
WORD_END = "</w>"  # in vocabularies of CLIP's kind


class Table:
    """Lines of text, then rows of cells, the first of which has the headings."""

    _lines: Callable[[], Sequence[str]]
    _cells: Callable[[], Sequence[Sequence[str]]]

    def __str__(self) -> str:
        cells = self._cells()
        widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
        rows = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([*self._lines(), *([""] if rows else []), *rows])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines = "<br>".join(escape(line) for line in self._lines())
        rows = ""
        for i, row in enumerate(self._cells()):
            tag = "td" if i else "th"
            rows += "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) + "</tr>"
        return f"<p>{lines}</p>" + (f"<table>{rows}</table>" if rows else "")


class DescribedLayer(NamedTuple):
    """One layer of one tower.

    Attributes:
        tower: "text" or "vision".
        layer: Its number, from 1.
        prompt: What enters it: "P_i" or "P~_i", learned in the text or the vision tower; "F(P_i)" or "F~(P~_i)", mapped
            from the other tower, with "F_i" where the map is this layer's own; "carried"; "-", no prompt.
        shape: (n, d) of the prompt, None where there is none.
        trainable: Whether the prompt, or the map that makes it, is trained.
        norm: Mean length of the n vectors; None where nothing fresh enters, or values cannot be read.
    """

    tower: str
    layer: int
    prompt: str
    shape: tuple[int, int] | None
    trainable: bool
    norm: float | None


@dataclass(frozen=True, repr=False)
class Description(Table):
    """Every layer of both towers. It prints as a table, in a terminal and in a notebook.

    Attributes:
        adapter_name: The adapter that is described.
        layers: Those of the text tower, then those of the vision tower. A tower of no known family has none.
        headlines: The lines above the table.
    """

    adapter_name: str
    layers: tuple[DescribedLayer, ...]
    headlines: tuple[str, ...]

    def _lines(self) -> Sequence[str]:
        return self.headlines

    def _cells(self) -> Sequence[Sequence[str]]:
        towers = [[*layers] for _, layers in groupby(self.layers, key=lambda layer: layer.tower)]
        rows = [["layer", *(part for tower in towers for part in (tower[0].tower, "shape", "trainable", "norm"))]]
        for i, layers in enumerate(zip_longest(*towers), start=1):
            rows.append([str(i), *(cell for layer in layers for cell in _cells_of(layer))])
        return rows


def describe(wrapped: Any) -> Description:
    """Says of every layer of both towers where its prompt comes from (Eq. 10 and 11), its shape, norm and training.

    It is the active adapter that is described, inside `use_adapter` the chosen one.

    >>> import open_clip, vilt_prompt
    >>> text = {"width": 32, "heads": 2, "layers": 3}
    >>> clip = open_clip.CLIP(16, {"width": 48, "head_width": 16, "layers": 4, "patch_size": 112}, text)
    >>> for layer in vilt_prompt.describe(vilt_prompt.wrap(clip, K=1, n_ctx=2, depth=2)).layers[:3]:
    ...     print(layer.prompt, layer.shape, layer.trainable)
    P_1 (2, 32) True
    F~(P~_2) (2, 32) True
    carried (2, 32) False

    Args:
        wrapped: What `wrap` or `from_pretrained` returned; the open_clip object inside will do.

    Raises:
        TypeError: If `wrapped` is no wrapped model.
        ValueError: If no adapter is active.
    """
    model = prompted_model(wrapped)
    prompts = model.prompts
    name = prompts.current()
    config = prompts.configs[name]
    with torch.inference_mode(False), torch.enable_grad():  # whether a prompt is trained is read off its graph
        entering = model.layer_prompts()._asdict()
    layers = []
    for tower, fresh in entering.items():
        names = prompt_names(prompts.tables[name], tower, config.mapper == "per_layer")
        shape = None
        for i, (prompt, symbol) in enumerate(zip(fresh, names, strict=True), start=1):
            norm = None
            if prompt is not None:
                shape = (prompt.shape[0], prompt.shape[1])
                norm = prompt.detach().float().norm(dim=1).mean().item() if is_readable(prompt) else None
            trainable = prompt is not None and prompt.requires_grad
            layers.append(DescribedLayer(tower, i, symbol, shape, trainable, norm))
    tensors = prompts.tensors(name).values()
    total = sum(tensor.numel() for tensor in tensors)
    trained = sum(tensor.numel() for tensor in tensors if tensor.requires_grad)
    settings = ["method", "towers", "lead", "mapper", "pairing", "depth", "K", "n_ctx"]
    settings += ["n_ctx_vision"] if config.n_ctx_vision != config.n_ctx else []
    headlines = (
        f"adapter {name!r}: {_state(prompts, name)}",
        ", ".join(f"{field}={getattr(config, field)!r}" for field in settings),
        f"{total:,} parameters, {trained:,} trainable",
        *(f"the {tower} tower belongs to no family that takes prompts" for tower in SYMBOLS if not entering[tower]),
    )
    return Description(name, tuple(layers), headlines)


def prompt_names(table: PromptTable, tower: str, per_layer_maps: bool) -> list[str]:
    """Where the prompt of each layer of a tower comes from, in the symbols of Eq. 10 and 11."""
    names: list[str] = []
    for i, source in enumerate(getattr(table, tower)):
        if source is None:
            names.append(CARRIED if names and names[-1] != NOTHING else NOTHING)
        else:
            symbol, mapper = SYMBOLS[source.leader]
            learned = f"{symbol}_{getattr(table, source.leader).index(source) + 1}"
            mapper += f"_{i + 1}" if per_layer_maps else ""
            names.append(learned if source.leader == tower else f"{mapper}({learned})")
    return names


def _state(prompts: PromptLayer, name: str) -> str:
    state = "chosen by use_adapter" if prompts.is_chosen(name) else "active"
    others = [other for other in prompts.tables if other != name]
    state += "" if prompts.enabled else ", switched off by disable_adapter"
    return state + (f"; beside it: {', '.join(others)}" if others else "")


def _cells_of(layer: DescribedLayer | None) -> list[str]:
    if layer is None:
        return [""] * 4
    trainable = "" if layer.shape is None else "yes" if layer.trainable else "no"
    norm = "" if layer.norm is None else f"{layer.norm:.4g}"
    return [layer.prompt, str(layer.shape or ""), trainable, norm]


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
    name = model.prompts.current()
    decode, known = _decoder(tokenizer)
    check_count("k", k, optional=False)
    names = prompt_names(model.prompts.tables[name], "text", model.prompts.configs[name].mapper == "per_layer")
    fresh = [(i, p) for i, p in enumerate(model.prompts.tower_prompts("text"), start=1) if p is not None]
    if not fresh:
        return NearestTokens(name, ())
    embedding: Tensor = text_tower(model).embedding.weight  # [V d_t]
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
        nearest = distances.topk(k, largest=False)
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
