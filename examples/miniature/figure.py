"""The quickstart's figure: how training went, and what it did to the video embeddings."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # Writes files on machines without a display, too.

import matplotlib.pyplot as plt
from sklearn.manifold import TSNE  # type: ignore[import-untyped]
from torch import Tensor


def draw(
    path: Path,
    history: Sequence[float],
    embeddings: dict[str, Tensor],
    labels: Tensor,
    classes: list[str],
) -> None:
    """Draws the training curve, and a t-SNE map of each set of embeddings, as the paper's Figure 3 does.

    Args:
        path: The file to write.
        history: The loss of each step.
        embeddings: Title to (B, D), all of the same videos.
        labels: Their classes, (B,).
        classes: Names.
    """
    figure, (curve, *maps) = plt.subplots(1, 1 + len(embeddings), figsize=(14, 4.2), layout="constrained")
    curve.plot(range(1, len(history) + 1), history)
    curve.set(title="training on the base classes", xlabel="step", ylabel="loss", ylim=(0, None))

    colours = plt.get_cmap("tab20").colors  # type: ignore[attr-defined]
    for axes, (title, features) in zip(maps, embeddings.items(), strict=True):
        # Perplexity is about the number of neighbours that count: there must be more videos than that.
        tsne = TSNE(metric="cosine", perplexity=min(30, (len(labels) - 1) / 3), init="pca", random_state=0)
        points = tsne.fit_transform(features.numpy())
        for number, name in enumerate(classes):
            own = points[labels.numpy() == number]
            axes.scatter(own[:, 0], own[:, 1], s=14, color=colours[number % len(colours)], label=name)
        axes.set(title=title, xticks=[], yticks=[])
    figure.legend(*maps[-1].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)
