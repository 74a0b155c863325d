"""The site in a browser: no page is wider than the window, no code is cut, and the search finds the right page.

Skipped where MkDocs (the `docs` extra) or Chromium (Debian's package `chromium`) is missing.
"""

from __future__ import annotations

import functools
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WIDE, NARROW = 1400, 390  # a laptop, a phone
SECONDS = 240
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
    pytest.mark.skipif(
        any(find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings")),
        reason="the docs extra is not installed",
    ),
]

# Opens each page in a frame of each width and colour scheme, and sends home what it found. A frame's width is what
# media queries see. Code is cut where its text is wider than its box; on a phone it may scroll inside the box.
HARNESS = """<!doctype html><body style="margin: 0"><script>
const SCROLLS = "pre, .md-typeset__scrollwrap, .highlight";
const settle = () => new Promise(done => setTimeout(done, 60));
async function look(page) {
  const frame = document.createElement("iframe");
  frame.style.cssText = "border: 0; height: 1000px; width: WIDEpx";
  document.body.append(frame);
  await new Promise(done => { frame.onload = done; frame.src = page; });
  const found = [], inside = frame.contentDocument, root = inside.documentElement;
  for (const width of [WIDE, NARROW]) for (const scheme of ["default", "slate"]) {
    frame.style.width = width + "px";
    inside.body.setAttribute("data-md-color-scheme", scheme);
    await settle();
    const wider = [...inside.querySelectorAll(".md-content *")].filter(element =>
      element.getBoundingClientRect().right > width + 1 && !element.closest(SCROLLS));
    const cut = [...inside.querySelectorAll("pre > code")].filter(code => code.scrollWidth > code.clientWidth + 1);
    found.push({
      page, width, scheme,
      overflow: root.scrollWidth > width,
      wider: wider.slice(0, 3).map(element => element.outerHTML.slice(0, 120)),
      cut: cut.map(code => code.textContent.slice(0, 400)),
      hidden: cut.filter(code => getComputedStyle(code).overflowX === "hidden").length,
      covered: [...inside.querySelectorAll((width > NARROW ? ".doc-signature " : "") + ".md-code__nav")]
        .filter(button => button.clientWidth).length,
      signatures: inside.querySelectorAll(".doc-signature").length,
      background: frame.contentWindow.getComputedStyle(inside.body).backgroundColor,
      text: frame.contentWindow.getComputedStyle(inside.querySelector(".md-content h1, .md-content")).color,
    });
  }
  frame.remove();
  return found;
}
(async () => {
  const found = [];
  for (const page of await (await fetch("/pages.json")).json()) found.push(...await look(page));
  await fetch("/found", { method: "POST", body: JSON.stringify(found) });
})();
</script>""".replace("WIDE", str(WIDE)).replace("NARROW", str(NARROW))

# Types each query into the search field of the first page, and sends home the addresses that are shown, in their order.
SEARCH = """<!doctype html><body><script>
const settle = time => new Promise(done => setTimeout(done, time));
(async () => {
  const frame = document.createElement("iframe");
  frame.style.cssText = "width: 1400px; height: 1000px";
  document.body.append(frame);
  await new Promise(done => { frame.onload = done; frame.src = "/index.html"; });
  const inside = frame.contentDocument, field = inside.querySelector("[data-md-component=search-query]");
  const found = [];
  for (const query of await (await fetch("/pages.json")).json()) {
    const list = inside.querySelector(".md-search-result__list");
    list.replaceChildren();
    field.focus();
    field.value = query;
    for (const kind of ["input", "keyup"]) field.dispatchEvent(new Event(kind, { bubbles: true }));
    for (let i = 0; i < 100 && !list.children.length; i++) await settle(100);
    await settle(300);
    const links = [...inside.querySelectorAll(".md-search-result__item > a")];
    found.push({ query, pages: links.map(link => new URL(link.href).pathname) });
  }
  await fetch("/found", { method: "POST", body: JSON.stringify(found) });
})();
</script>"""
# What newcomers type, and the pages of which one must come first.
QUERIES = {
    "folder for each class": ["/own-videos/", "/recognition/"],
    "install": ["/"],
    "GPU memory": ["/performance/"],
    "ONNX": ["/deploy/"],
    "several GPUs": ["/several-gpus/"],
    "MaPLe checkpoint": ["/convert/"],
    "learning rate": ["/recipes/"],
}


class Site(SimpleHTTPRequestHandler):
    """The built site, and the harness that looks at it."""

    harness: str
    pages: list[Any]  # or queries
    found: queue.Queue[list[dict[str, Any]]]

    def do_GET(self) -> None:
        own = {"/harness": ("text/html", self.harness), "/pages.json": ("application/json", json.dumps(self.pages))}
        if self.path not in own:
            super().do_GET()
            return
        kind, body = own[self.path]
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body.encode())

    def do_POST(self) -> None:
        self.found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


def look_at(site: Path, profile: Path) -> list[dict[str, Any]]:
    """What a browser finds on each page of a built site, at both widths and in both colour schemes."""
    pages = sorted(f"/{page.relative_to(site).as_posix()}" for page in site.rglob("index.html"))
    return browse(site, profile, HARNESS, pages)


def browse(site: Path, profile: Path, harness: str, pages: list[Any]) -> list[dict[str, Any]]:
    """What a harness sends home when a browser opens it in a built site."""
    kind = type("TheSite", (Site,), {"harness": harness, "pages": pages, "found": queue.Queue()})
    assert CHROMIUM is not None
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(kind, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        # Root, as in a container, may not use the sandbox; and nothing but the site is opened.
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        command = [CHROMIUM, *options, f"--user-data-dir={profile}", f"http://127.0.0.1:{server.server_port}/harness"]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return kind.found.get(timeout=SECONDS)
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(build, cwd=ROOT, check=True, env=environment)
    return folder / "site"


@pytest.fixture(scope="module")
def found(site) -> list[dict[str, Any]]:
    return look_at(site, site.parent / "profile")


def described(view: dict[str, Any], what: str) -> str:
    return f"{view['page']} at {view['width']} px, {view['scheme']}: {view[what]}"


def test_no_page_is_wider_than_the_window(found):
    assert len(found) > 4 * 25
    assert not [described(view, "wider") for view in found if view["overflow"] or view["wider"]]


def test_no_code_is_cut_beside_the_menu(found):
    assert not [described(view, "cut") for view in found if view["width"] == WIDE and view["cut"]]


def test_code_scrolls_on_a_phone(found):
    assert any(view["cut"] for view in found if view["width"] == NARROW)
    assert not [described(view, "hidden") for view in found if view["hidden"]]


def test_no_button_covers_a_signature_or_on_a_phone_any_code(found):
    assert any(view["signatures"] for view in found)
    assert not [described(view, "covered") for view in found if view["covered"]]


def test_text_differs_from_its_background(found):
    for view in found:
        text, background = (
            sum(map(float, view[what].strip("rgba()").split(",")[:3])) for what in ("text", "background")
        )
        assert abs(text - background) > 250, described(view, "text")
        assert (background < 300) == (view["scheme"] == "slate"), described(view, "background")


def test_the_search_finds_the_right_page_first(site):
    for found in browse(site, site.parent / "profile", SEARCH, list(QUERIES)):
        first = found["pages"][:1]
        assert set(first) & set(QUERIES[found["query"]]), found


# Types into the field above a long table, and sends home the names in the rows that are left.
FILTER = """<!doctype html><body><script>
(async () => {
  const frame = document.createElement("iframe");
  document.body.append(frame);
  const found = [];
  for (const [page, words] of await (await fetch("/pages.json")).json()) {
    await new Promise(done => { frame.onload = done; frame.src = page; });
    const inside = frame.contentDocument, field = inside.querySelector(".table-filter");
    field.value = words;
    field.dispatchEvent(new Event("input"));
    const rows = [...inside.querySelectorAll("table")].find(t => t.rows.length > 25).querySelectorAll("tbody tr");
    const left = [...rows].filter(row => row.offsetParent !== null);
    found.push({ all: rows.length, left: left.map(row => row.cells[0].textContent) });
  }
  await fetch("/found", { method: "POST", body: JSON.stringify(found) });
})();
</script>"""


def test_the_table_of_models_can_be_filtered(site):
    (found,) = browse(site, site.parent / "profile", FILTER, [["/backbones/index.html", "siglip2 384"]])
    assert found["all"] > 100
    assert "ViT-B-16-SigLIP2-384" in found["left"]
    assert all("SigLIP2" in name and "384" in name for name in found["left"])


def test_what_is_too_wide_is_found(tmp_path):
    """The browser's own check: a page that overflows and cuts its code is seen to do so."""
    long = "x" * 400
    body = '<body><main class="md-content"><h1>Title</h1>{}</main>'
    style = "display: block; overflow: auto"
    for name, content in {
        "bad": f'<div style="width: 2000px">wide</div><pre><code style="{style}">{long}</code></pre>',
        "good": "<p>text</p><pre><code>short</code></pre>",
    }.items():
        (tmp_path / "site" / name).mkdir(parents=True)
        (tmp_path / "site" / name / "index.html").write_text("<!doctype html>" + body.format(content))
    views = {(view["page"], view["width"]): view for view in look_at(tmp_path / "site", tmp_path / "profile")}
    for width in (WIDE, NARROW):
        bad, good = views["/bad/index.html", width], views["/good/index.html", width]
        assert bad["overflow"]
        assert bad["wider"]
        assert bad["cut"]
        assert not any(good[what] for what in ("overflow", "wider", "cut"))
