"""The page, by Gradio. Nothing of it leaves this machine: no analytics, no share links, fonts of the system."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..faults import optional, sentence
from .view import MAX_BYTES, MAX_PIXELS, RIVALS, Photograph, opened

if TYPE_CHECKING:
    from ..model import Model

TITLE = "cdanalysis"
KEPT = 3600
"""Seconds for which an upload is kept."""
ABOUT = """# cdanalysis
A photograph becomes one small stream of three layers. Labels, boxes and classes of pixels are read from its first two,
without decoding a pixel; the picture is decoded from all three, beside other codecs' files of that size at most.
"""


def gradio_module() -> Any:
    """Gradio, told to send nothing to anybody.

    Raises:
        ModuleNotFoundError: if it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    return optional("gradio", "app", "Gradio")


def new_page(model: Model, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> Any:
    """The page: a photograph is dropped on it, and sliders set the quality, and the realism if the model has any.

    Args:
        model: encodes and reads the photographs.
        max_pixels: larger photographs are refused before they are decoded.
        max_bytes: larger files are refused.

    Returns:
        ``gradio.Blocks``; `serve` opens it.

    Raises:
        ModuleNotFoundError: if Gradio is not installed.
    """
    gr = gradio_module()

    def dropped(path: str | None, quality: float, realism: float) -> list[Any]:
        nothing = [None] * (2 + len(shown))
        if path is None:
            return nothing
        try:
            photograph = Photograph(model, opened(path, max_pixels, max_bytes))
            return [photograph, photograph.image, *values(photograph, quality, realism)]
        except Exception as error:  # what was not foreseen is told as a fault, with its report
            gr.Warning(sentence(error), duration=None, title="The photograph was refused")
            return nothing

    def moved(photograph: Photograph | None, quality: float, realism: float) -> list[Any]:
        return [gr.skip()] * len(shown) if photograph is None else values(photograph, quality, realism)

    def values(photograph: Photograph, quality: float, realism: float) -> list[Any]:
        view = photograph.at(quality, realism)
        pictures = [gr.Image(picture, label=caption) for caption, picture in view.pictures]
        return [view.layers, view.labels, view.objects, view.classes, *pictures]

    def picture(label: str, shown: bool = True) -> Any:
        return gr.Image(label=label, show_label=shown, format="png", interactive=False, buttons=["fullscreen"])

    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(KEPT, KEPT)) as page:
        gr.Markdown(ABOUT)
        photograph = gr.State(time_to_live=KEPT)
        with gr.Row():
            with gr.Column(scale=2):
                file = gr.File(label="photograph", file_count="single", height=120)
                quality = gr.Slider(0, 1, 0.5, step=0.05, label="quality")
                realism = gr.Slider(0, 1, 0.0, step=0.1, label="realism", visible=model.realistic)
                labels = gr.Label(label="classification, from the global layer")
            with gr.Column(scale=3):
                with gr.Row():
                    with gr.Column(min_width=200):
                        gr.Markdown("**Detection**")
                        objects = picture("detection", False)
                    with gr.Column(min_width=200):
                        gr.Markdown("**Segmentation**")
                        classes = picture("segmentation", False)
                layers = gr.Markdown()
        with gr.Row():
            original = picture("original")
            decoded = [picture(name) for name in ("cdanalysis", *(codec.name for codec in RIVALS))]
        shown = [layers, labels, objects, classes, *decoded]
        file.change(dropped, [file, quality, realism], [photograph, original, *shown], api_name=False)
        for slider in (quality, realism):
            slider.change(moved, [photograph, quality, realism], shown, trigger_mode="always_last", api_name=False)
    return page


def serve(page: Any, host: str = "127.0.0.1", port: int | None = None, max_bytes: int = MAX_BYTES) -> str:
    """Begin to serve the page, to this machine alone unless another host is named; ``page.block_thread()`` waits.

    Args:
        page: of `new_page`.
        host: address to listen at.
        port: by default the first free one from 7860 on.
        max_bytes: longer uploads are cut off.

    Returns:
        the page's address.

    Raises:
        OSError: if the port is taken.
    """
    gr = gradio_module()
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    _, address, _ = page.queue(max_size=16).launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        ssr_mode=False,
        prevent_thread_lock=True,
        max_file_size=max_bytes,
        theme=theme,
        footer_links=[],
        show_error=False,
    )
    return str(address)
