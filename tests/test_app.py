"""The page: what it shows is what the library says; tried in a browser, where there is one."""

from __future__ import annotations

import re
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from cdanalysis.app.view import AVIF, Photograph, _labels, opened
from cdanalysis.cli import main
from cdanalysis.codecs.pillow import PillowCodec

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture
def picture(chelsea) -> Image.Image:
    return Image.fromarray(chelsea[60:220, 100:320])


def test_a_view_is_what_the_library_says(three_tasks, picture):
    photograph = Photograph(three_tasks, picture)
    low, high = photograph.at(0.1), photograph.at((0.9, 0.9, 0.9))
    for view, quality in ((low, 0.1), (high, 0.9)):
        assert view.stream == three_tasks.encode(picture, quality)
        assert view.pictures[0][1].tobytes() == three_tasks.decode(view.stream).tobytes()
        top5 = three_tasks.analyze(view.stream).classification.top5
        assert list(view.labels.items()) == [(name.split(",")[0], score) for name, score in top5]
        assert f"**{len(view.stream):,}**" in view.layers and view.layers.count("\n") == 6
        assert view.objects.size == view.classes.size == picture.size
        for caption, shown in view.pictures:
            assert shown.size == picture.size
            size = int(re.search(r"([\d,]+) bytes", caption)[1].replace(",", ""))
            assert size <= len(view.stream) or "its smallest file" in caption
    assert len(low.stream) < len(high.stream) and low.pictures[0][0] != high.pictures[0][0]


def test_a_model_of_one_task_and_a_pillow_without_avif(small, picture, monkeypatch):
    monkeypatch.setattr(PillowCodec, "available", lambda self: self is not AVIF)
    view = Photograph(small, picture).at(0.5)
    assert view.objects is None and view.classes is None and len(view.labels) == 3
    assert [name.split(":")[0] for name, _ in view.pictures][-1] == "AVIF"
    assert "cannot write it" in view.pictures[-1][0] and "JPEG" in view.pictures[1][0]


def test_large_and_foreign_uploads_are_refused_plainly(picture, tmp_path):
    picture.save(tmp_path / "a.png")
    assert opened(tmp_path / "a.png").tobytes() == picture.tobytes()
    with pytest.raises(ValueError, match=r"a\.png has 220x160 pixels, more than the limit of 100; raise it with"):
        opened(tmp_path / "a.png", max_pixels=100)
    with pytest.raises(ValueError, match=r"bytes, more than the limit of 50; raise it with --max-bytes"):
        opened(tmp_path / "a.png", max_bytes=50)
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"b\.jpg is not an image file"):
        opened(tmp_path / "b.jpg")


def test_a_missing_gradio_is_named_before_the_model_is_loaded(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr("cdanalysis.zoo.load", None)
    assert main(["app"]) == 1
    assert "Gradio is not installed: pip install 'cdanalysis[app]'" in capsys.readouterr().err


@pytest.fixture
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as started:
        opened_browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened_browser
        opened_browser.close()


def test_the_page_in_a_browser(browser, three_tasks, picture, tmp_path):
    """Upload, read a label, move the slider, be refused; and no word to any other machine."""
    pytest.importorskip("gradio", reason="needs the extra app")
    from cdanalysis.app.page import new_page, serve

    picture.save(tmp_path / "cat.png")
    Image.fromarray(np.zeros((300, 300, 3), np.uint8)).save(tmp_path / "large.png")
    page = new_page(three_tasks, max_pixels=picture.width * picture.height)
    address = serve(page)
    try:
        assert address.startswith("http://127.0.0.1:")
        tab = browser.new_page(viewport={"width": 1360, "height": 1500})
        tab.set_default_timeout(120_000)
        hosts: set[str] = set()
        tab.on("request", lambda request: hosts.add(request.url))
        tab.goto(address)
        tab.locator("input[type=file]").first.set_input_files(tmp_path / "cat.png")
        photograph = Photograph(three_tasks, picture)
        _see(tab, photograph.at(0.5))
        tab.get_by_role("slider").first.focus()
        tab.keyboard.press("Home")
        _see(tab, photograph.at(0.0))
        tab.screenshot(path=tmp_path / "page.png", full_page=True)
        assert Image.open(tmp_path / "page.png").width == 1360
        tab.get_by_label("Clear").first.click()
        tab.locator("input[type=file]").first.set_input_files(tmp_path / "large.png")
        tab.get_by_text("large.png has 300x300 pixels, more than the limit").first.wait_for()
        assert not {url for url in hosts if not url.startswith((address, "data:", "blob:"))}
    finally:
        page.close()


def _see(tab, view) -> None:
    """Wait until a view is on the page."""
    tab.get_by_text(f"{len(view.stream):,}", exact=True).first.wait_for()
    tab.get_by_text(next(iter(view.labels)), exact=True).first.wait_for()
    for caption, _ in view.pictures:
        tab.get_by_text(caption).first.wait_for()


def test_classes_of_one_name_have_a_line_each():
    labels = _labels([("crane", 0.5), ("crane", 0.2), ("heron, bird", 0.1)])
    assert list(labels) == ["crane", "crane (another)", "heron"] and list(labels.values()) == [0.5, 0.2, 0.1]
