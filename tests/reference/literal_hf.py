"""The literal computation for Hugging Face text towers, see `literal`.

The encoder runs as a whole on ids that have a stand-in at each prompt's place, so that masks and position ids are its
own work; hooks put the prompts over the stand-ins, where the words are embedded and before each later block.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch import Tensor, nn

from tests.reference.literal_rows import Prompts, drop_padding, repeated


def hf_blocks(tower: nn.Module) -> list[nn.Module]:
    """The blocks of open_clip's `HFTextEncoder`."""
    encoder = tower.transformer
    if tower.config.model_type == "mt5":
        return list(encoder.block)
    return list(encoder.layers if tower.config.model_type == "m2m_100" else encoder.encoder.layer)


def hf_width(tower: nn.Module) -> int:
    """Width of open_clip's `HFTextEncoder`."""
    return hf_words(tower).embedding_dim


def hf_words(tower: nn.Module) -> nn.Embedding:
    """The word embeddings of open_clip's `HFTextEncoder`; M2M100's encoder has no method that says them everywhere."""
    encoder = tower.transformer
    return encoder.embed_tokens if hasattr(encoder, "embed_tokens") else encoder.get_input_embeddings()


def hf_positions(tower: nn.Module) -> float:
    """How many tokens the tower has positions for; mT5 has biases and NLLB sinusoids for any number."""
    config = tower.config
    if config.model_type in ("roberta", "xlm-roberta"):
        return config.max_position_embeddings - config.pad_token_id - 1
    return config.max_position_embeddings if config.model_type == "bert" else float("inf")


def literal_hf_text(tower: nn.Module, ids: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
    """Encodes `[first, P, rest]`, in mT5 `[P, ids]`.

    Args:
        tower: open_clip's `HFTextEncoder`.
        ids: (C, L) token ids.
        prompts: What enters each layer.

    Returns:
        (C, D) features, not normalised, and the token outputs, one for each id that the tower gives one for, zero for
        padding that was dropped to make room.
    """
    n = 0 if prompts[0] is None else len(prompts[0])
    at = 0 if tower.config.model_type == "mt5" else 1
    columns = ids.shape[1]
    kept = int(min(columns, hf_positions(tower) - n))
    drop_padding(ids, kept)
    ids = ids[:, :kept]
    stand_in = ids.new_full((len(ids), n), tower.config.pad_token_id + 1)
    stood_in = torch.cat([ids[:, :at], stand_in, ids[:, at:]], dim=1)  # [C, kept + n]

    def put(prompt: Tensor | None, x: Tensor) -> Tensor:
        return x if prompt is None else torch.cat([x[:, :at], repeated(prompt, x), x[:, at + n :]], dim=1)

    with ExitStack() as hooks:
        words = hf_words(tower)
        hooks.callback(words.register_forward_hook(lambda module, inputs, x: put(prompts[0], x)).remove)
        for block, prompt in zip(hf_blocks(tower)[1:], prompts[1:], strict=True):

            def before(module, inputs, prompt=prompt):
                return put(prompt, inputs[0]), *inputs[1:]

            hooks.callback(block.register_forward_pre_hook(before).remove)
        if tower.config.model_type == "mt5":
            hooks.enter_context(no_bias_with_prompts(tower.transformer.block[0].layer[0].SelfAttention, n))
        mask = (stood_in != tower.config.pad_token_id).long()
        output = tower.transformer(input_ids=stood_in, attention_mask=mask)

    x = output.last_hidden_state
    output.last_hidden_state = torch.cat([x[:, :at], x[:, at + n :]], dim=1)  # [C, kept, d]
    features = tower.proj(tower.pooler(output, (ids != tower.config.pad_token_id).long()))
    tokens = nn.functional.pad(output.last_hidden_state, (0, 0, 0, columns - kept))
    if type(tower.pooler).__name__ == "ClsPooler":
        tokens = tokens[:, 1:]
    return features, tokens


@contextmanager
def no_bias_with_prompts(attention: nn.Module, n: int):
    """Set mT5's relative position bias to zero to and from the first n tokens, and keep it for the other tokens."""
    compute_bias = attention.compute_bias

    def padded(query_length: int, key_length: int, **arguments) -> Tensor:
        # What else it is told says where the first query stands, which without a cache is at 0.
        bias = compute_bias(query_length - n, key_length - n)  # [1, heads, kept, kept]
        return nn.functional.pad(bias, (n, 0, n, 0))

    with mock.patch.object(attention, "compute_bias", padded):
        yield
