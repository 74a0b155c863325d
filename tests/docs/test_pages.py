"""Drawings, lists and quotations in the pages agree with the library, and every page is in the site's menu."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import open_clip
import pytest
import torch
import yaml

import vilt_prompt
from docs import choosing, gallery, how_it_works, pairing, predictions, repository_files, unbroken

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def menu(entry) -> list[str]:
    """The pages that a part of the menu names."""
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in menu(part)]


def test_every_page_is_in_the_menu_once():
    text = (ROOT / "mkdocs.yml").read_text()
    pages = menu(yaml.safe_load(text)["nav"])
    assert sorted(set(pages)) == sorted(pages)
    in_docs = {page for page in pages if not (ROOT / page).is_file()}
    notebooks = {f"{notebook.stem}.md" for notebook in DOCS.glob("*.ipynb")}
    assert in_docs == {page.name for page in DOCS.glob("*.md")} | notebooks


def test_the_site_fetches_nothing():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert settings["theme"]["font"] is False
    assert "repo_url" not in settings
    for name in settings["extra_css"] + settings["extra_javascript"]:
        assert not re.search(r"url\(|import|fetch|http", (DOCS / name).read_text())


def test_code_fits_beside_the_menu():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md")):
        code = re.findall(r"^ *```(?:python|bash)\n(.*?)^ *```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for block in code:
            assert not [line for line in block.splitlines() if len(line) > 85], page.name


def test_releases_are_tested_on_the_versions_that_the_package_names():
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    assert tested == named == ["3.10", "3.11", "3.12", "3.13", "3.14"]


def test_a_release_publishes_what_the_gate_has_built():
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]
    steps = [step.get("run", step.get("uses")) for step in jobs["build"]["steps"]]
    assert any(step.startswith(".ci/run") for step in steps)
    assert jobs["pypi"]["permissions"] == {"id-token": "write"}  # trusted publishing: there is no token to keep
    assert jobs["pypi"]["needs"] == jobs["site"]["needs"] == "build"


def test_the_table_of_methods_is_up_to_date():
    page = choosing.PAGE.read_text()
    assert page.count("<!-- methods -->") == 1
    assert choosing.filled(page) == page, "run python -m docs.choosing"
    assert "| `vilt` | 1..12 | 1..12 | one for each direction | 864,512 | 3.46 MB | both towers |" in page


def test_the_picture_shows_which_prompts_are_learned():
    """Squares of each layer and encoder, against the parameters of a wrapped model of as many layers."""
    clip = open_clip.create_model("local-dir:examples/small_clip/emoji-vit-12x128")
    prompts = vilt_prompt.wrap(clip, K=how_it_works.K).layer_prompts()
    learned = {"text": clip.prompts.vilt_text["default"], "vision": clip.prompts.vilt_vision["default"]}
    drawn = {"text": {}, "vision": {}}  # from the height of a layer to the squares of its prompts
    svg = how_it_works.draw().svg()
    pattern = r'<rect x="([\d.]+)" y="([\d.]+)"[^>]* class="f-(text|vision|page) s-(text|vision)" stroke-width="2"'
    layers, legend = svg.split("cosine similarity")
    for x, y, fill, edge in re.findall(pattern, layers):
        tower = "text" if float(x) < how_it_works.WIDTH / 2 else "vision"
        drawn[tower].setdefault(float(y), []).append((fill, edge))
    assert legend.count('class="f-text s-text"') == legend.count('class="f-page s-vision"') == 1
    for tower, squares in drawn.items():
        assert len(squares) == 12
        for prompt, (_, row) in zip(getattr(prompts, tower), sorted(squares.items()), strict=True):
            own = any(torch.equal(prompt, parameter) for parameter in learned[tower])
            leader = tower if own else {"text": "vision", "vision": "text"}[tower]
            assert row == [(leader if own else "page", leader)] * 3


def without_frames(svg: str) -> str:
    """The picture without the frames of videos, whose bytes depend on the libraries that wrote them."""
    return re.sub(r'href="data:[^"]*"', "", svg)


def test_pictures_are_up_to_date():
    drawn = {DOCS / f"{script.__name__.split('.')[1]}.svg": script.draw() for script in (how_it_works, pairing)}
    drawn |= gallery.drawings()
    pages = "".join(page.read_text() for page in DOCS.glob("*.md"))
    for path, drawing in drawn.items():
        assert without_frames(path.read_text()) == without_frames(drawing.svg()), f"draw {path.name} again"
        assert f"]({path.name})" in pages


def test_the_hero_shows_what_is_predicted():
    """The words beside the picture, and the bars in it, against the probabilities that are kept."""
    (climbing,) = [prediction for prediction in predictions.read() if prediction.label == gallery.HERO]
    said = [f"{name} {share:.0%}" for found in climbing[3:] for name, share in found.items() if round(share, 2) >= 0.04]
    for page in ("README.md", "docs/index.md"):
        text = " ".join((ROOT / page).read_text().split())
        assert [words for words in said if words not in text] == []
    bars = re.findall(r'width="([\d.]+)" height="13.0"', (DOCS / "hero.svg").read_text())
    shares = [found[name] for name in ("climbing", "biking", "mountain biking") for found in climbing[3:]]
    assert [float(bar) for bar in bars] == pytest.approx([190 * share for share in shares], abs=0.06)


def test_the_gallery_counts_every_clip():
    found = {kind: [(p.label, *p.answers()) for p in rows] for kind, rows in gallery.kinds(predictions.read()).items()}
    assert sum(map(len, found.values())) == 30
    for (before, after), rows in found.items():
        assert all((first == label, second == label) == (before, after) for label, first, second in rows)
    text = " ".join((DOCS / "predict.md").read_text().split())
    assert f"Training corrects {len(found[False, True])} of 30" in text
    assert f"Training breaks {len(found[True, False])} of 30" in text
    assert f"{len(found[False, False])} of 30 are wrong before and after" in text


def test_every_question_has_an_answer_with_code():
    _, *questions = re.split(r"^### ", (DOCS / "faq.md").read_text(), flags=re.MULTILINE)
    assert len(questions) >= 15
    for question in questions:
        assert "```python" in question, question.splitlines()[0]


def test_one_version_is_named_everywhere():
    version = vilt_prompt.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    changes, readme = (ROOT / "CHANGELOG.md").read_text(), (ROOT / "README.md").read_text()
    (latest, date), *_ = re.findall(r"^## \[([\d.]+)\] - (\d{4}-\d\d-\d\d)$", changes, flags=re.MULTILINE)
    assert version == citation["version"] == latest
    assert str(citation["date-released"]) == date
    assert f"![Version {version}](https://img.shields.io/badge/version-{version}-blue)" in readme
    assert changes.index("## [Unreleased]") < changes.index(f"## [{version}]")
    links = dict(re.findall(r"^\[(.+)\]: https://github\.com/[\w-]+/vilt-prompt/(\S+)$", changes, flags=re.MULTILINE))
    assert links["Unreleased"] == f"compare/v{version}...HEAD"
    assert links[version].endswith(f"v{version}")


def test_the_badges_name_what_the_package_declares():
    readme, package = (ROOT / "README.md").read_text(), (ROOT / "pyproject.toml").read_text()
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', package)
    assert f"![Python {named[0]} to {named[-1]}]" in readme
    assert "![MIT licence]" in readme
    assert 'license = "MIT"' in package


def test_the_paper_can_be_cited():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    (paper,) = citation["references"]
    assert paper["title"].startswith("ViLT-CLIP: Video and Language Tuning CLIP")
    assert paper["year"] == 2024
    assert [author["family-names"] for author in paper["authors"]][:2] == ["Wang", "Liu"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


@pytest.mark.parametrize(
    ("page", "link", "place"),
    [
        ("docs/faq.md", "method.md", "method.md"),
        ("docs/faq.md", "../CHANGELOG.md", "CHANGELOG.md"),
        ("docs/faq.md", "../README.md", "index.md"),
        ("docs/faq.md", "../examples/data/README.md", "examples/data/README.md"),
        ("SECURITY.md", "docs/method.md", "method.md"),
        ("docs/index.md", "tutorial.ipynb", "tutorial.md"),
        ("docs/faq.md", "../nowhere.md", None),
    ],
)
def test_links_out_of_the_docs_have_a_place_in_the_site(page, link, place):
    assert repository_files.in_site(page, link) == place
    if place is not None and place != repository_files.FRONT_IN_SITE:
        assert (ROOT / repository_files.in_repository(place)).samefile((ROOT / page).parent / link)


def test_a_page_is_rewritten_for_the_site():
    page = SimpleNamespace(file=SimpleNamespace(src_uri="examples/data/README.md"))
    written = "[a](../../docs/method.md#the-loss) [b](https://example.org) [c](manifest.csv) `x[0](y)`"
    assert repository_files.on_page_markdown(written, page, None, None) == written.replace("../../docs/", "../../")


def test_options_in_sentences_stay_in_one_piece():
    html = "<p>--a <code>train --micro-batch 4 -x</code></p><pre><code>--out a</code></pre><code>a--b</code>"
    kept = html.replace("--micro-batch", '<span class="unbroken">--micro-batch</span>')
    assert unbroken.on_page_content(html, None, None, None) == kept
    assert ".unbroken {\n  white-space: nowrap;" in (ROOT / "docs" / "site.css").read_text()


@pytest.mark.parametrize("numbers", ["(-4.2 to +5.5)", "(21 to 25.9)", "at least 0.85", "15 of 15"])
def test_intervals_in_tables_stay_in_one_piece(numbers):
    html = f"<p>a {numbers} b</p><table><td>+0.5 {numbers}</td><td>1 to 2</td></table>"
    kept = html.replace(f"+0.5 {numbers}", f'+0.5 <span class="unbroken">{numbers}</span>')
    assert unbroken.on_page_content(html, None, None, None) == kept
