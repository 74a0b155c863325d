"""The interface of a family of towers: a class around a tower's module that implements `VisionTower` or `TextTower`.

`vilt_prompt/towers/families.py` lists the classes. An object is a view of the module and keeps no values of its own. So
it stays correct when `fully_shard`, LoRA or another image size changes the module.

Shapes: B images, C texts, L their columns, n prompts, d width, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from torch import Tensor, nn

from vilt_prompt.towers.blocks import Block, ForeignModule
from vilt_prompt.towers.layers import Prompts
from vilt_prompt.towers.packing import PackedTexts
from vilt_prompt.towers.whole import WholeBlocks


class Tower(Protocol):
    """The members that image and text towers share."""

    module_classes: ClassVar[tuple[type[nn.Module], ...]]
    """The classes of the modules that belong to this family, for messages."""

    def __init__(self, module: ForeignModule, /) -> None:
        """Make a view of a module that this family owns."""

    @classmethod
    def owns(cls, module: ForeignModule, /) -> bool:
        """Whether a module belongs to this family."""

    @staticmethod
    def refusal(module: ForeignModule, /) -> str | None:
        """Why a module of this family cannot take prompts, or None if it can."""

    @property
    def family(self) -> str:
        """The name of the family, for tables."""

    @property
    def layers(self) -> int:
        """The number of layers."""

    @property
    def width(self) -> int:
        """The width d of a token."""

    @property
    def blocks(self) -> Sequence[Block] | WholeBlocks:
        """The layers: all decomposed, or all called as they are."""

    @property
    def stands_for(self) -> Sequence[nn.Module]:
        """The modules whose forward `encode` replaces, the outer one first."""

    def encode(self, inputs: Tensor, prompts: Prompts, with_tokens: bool, /) -> tuple[Tensor, Tensor | None]:
        """Encode images or texts.

        Args:
            inputs: Images (B, 3, H, W), or token ids (C, L), or what `pack` returned for them.
            prompts: The (n, d) prompt that enters each layer. None: no fresh prompt.
            with_tokens: Whether the tokens of the last layer are wanted too.

        Returns:
            Features (B or C, D), not normalised, and the tokens without prompts (B or C, l, d), or None.
        """


class VisionTower(Tower, Protocol):
    """An image tower."""

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of its images; None: any."""


class TextTower(Tower, Protocol):
    """A text tower."""

    @property
    def embedding(self) -> nn.Embedding:
        """The embedding of tokens."""

    @property
    def vocabulary(self) -> int:
        """The number of token ids."""

    @property
    def positions(self) -> int:
        """The number of positions, for ids and prompts together."""

    def check(self, text: Tensor) -> object:
        """Check token ids (C, L).

        Returns:
            Whatever `encode` needs to know of their values, if they can be read.

        Raises:
            TypeError: If `text` is not an integer tensor.
            ValueError: If the tower cannot encode it, whether with prompts or without.
        """

    def pack(self, text: Tensor) -> PackedTexts | Tensor:
        """Token ids (C, L) as `encode` runs them fastest when it cannot read their values."""

    def runs_alone(self, columns: int) -> bool:
        """Whether the module's own forward takes texts of this many columns."""
