"""The page itself, in Gradio: its components, what happens on it, and how it is served. All that computes is in ``session``."""

from __future__ import annotations

import html
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from allukan.app.examples import Example
from allukan.app.session import Finding, Visit, segment
from allukan.app.table import as_html
from allukan.app.uploads import MEGABYTE
from allukan.errors import UserError
from allukan.inference import LikenessCheck, Segmenter
from allukan.inference.inputs import described

IMAGE = "the image"  # the choice beside the models; "image" alone is a key of Gradio's translations
KEPT = 3600  # seconds after which what a visitor sent and got is deleted
WAITING = 16  # in the queue; the next one is told to come again
_FONTS = {"font": ("system-ui", "sans-serif"), "font_mono": ("ui-monospace", "monospace")}  # of the machine: none is fetched
_CSS = """
.sizes table { border-collapse: collapse; width: 100%; }
.sizes table th, .sizes table td { border: 0; border-bottom: 1px solid var(--border-color-primary); }
.sizes table th, .sizes table td { padding: .3rem .5rem; text-align: left; }
.sizes table .number { text-align: right; font-variant-numeric: tabular-nums; }
.sizes i { display: inline-block; width: .8em; height: .8em; margin-right: .5em; border-radius: 2px; }
.unlike { border-left: .25rem solid #D55E00; padding-left: .6rem; }
footer { display: none !important; }
"""


class Page:
    """The page of some ``models``; visitors send at most ``limit`` bytes, and what is theirs is below ``folder``.

    ``checks`` and ``examples`` as of ``serve``.
    """

    def __init__(
        self,
        models: Mapping[str, Segmenter],
        folder: Path,
        limit: int,
        checks: Mapping[str, LikenessCheck] | None = None,
        examples: Sequence[Example] = (),
    ) -> None:
        self.models, self.folder, self.limit = models, folder, limit
        self.checks, self.examples = checks or {}, examples
        self.card = next(iter(models.values())).card

    def blocks(self) -> gr.Blocks:
        """Its components and events."""
        names, several = list(self.models), len(self.models) > 1
        with gr.Blocks(title="allukan", analytics_enabled=False, delete_cache=(KEPT // 4, KEPT)) as page:
            visit = gr.State(None, time_to_live=KEPT, delete_callback=forget)
            gr.Markdown(f"# Segmentation\n\n{self._introduction()}")
            with gr.Row():
                with gr.Column(scale=2, min_width=300):
                    files = gr.File(label=self._wanted(), file_count="multiple", height=160)
                    gallery = self._gallery()
                    chosen = gr.CheckboxGroup(names, value=names, label="Models", visible=several)
                    button = gr.Button("Segment again", visible=several)
                    warning = gr.Markdown(visible=False, elem_classes="unlike")
                    sizes = gr.HTML(visible=False, elem_classes="sizes")
                    mask = gr.File(label="Mask to download, in the geometry of the image", visible=False, interactive=False)
                with gr.Column(scale=3, min_width=300):
                    with gr.Row(visible=False) as sides:
                        left = gr.Dropdown([IMAGE], label="Left of the handle", min_width=140)
                        right = gr.Dropdown([IMAGE], label="Right of the handle", min_width=140)
                    view = gr.ImageSlider(
                        label="Image and contours",
                        interactive=False,
                        visible=False,
                        slider_position=15,
                        buttons=["fullscreen"],
                        max_height=640,
                    )
                    place = gr.Slider(1, 2, step=1, label="Slice, from the feet up", visible=False)
                    with gr.Accordion("Probability and threshold", open=False, visible=False) as more:
                        label = gr.Dropdown([], label="Class", visible=False)
                        threshold = gr.Slider(0, 1, step=0.01, label="Threshold")
                        size = gr.Markdown()
                        chart = gr.Image(label="Black 0, white 1", interactive=False, buttons=["fullscreen"])
            shown = [visit, warning, sizes, mask, sides, left, right, view, place, more, label, threshold, size, chart]
            work: dict[str, Any] = {
                "fn": self.segment,
                "inputs": [files, chosen, visit],
                "outputs": shown,
                "concurrency_id": "models",
                "concurrency_limit": 1,
                "api_visibility": "private",
            }
            gr.on([files.upload, button.click], **work)
            gallery.select(self.take, None, files, show_progress="hidden", api_visibility="private").success(**work)
            light: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last", "api_visibility": "private"}
            seen = [visit, left, right, place]
            gr.on([left.input, right.input, place.input], look, seen, view, **light)
            gr.on([left.input, right.input], choose, seen, [more, label, threshold, size, chart], **light)
            gr.on([label.input, threshold.input, place.input], measure, [*seen, label, threshold], [size, chart], **light)
        page.queue(max_size=WAITING, default_concurrency_limit=4, api_open=False)
        return page

    def _gallery(self) -> gr.Gallery:
        return gr.Gallery(
            [(example.picture, example.name) for example in self.examples],
            label="Examples: choose one",
            visible=bool(self.examples),
            interactive=False,
            allow_preview=False,
            buttons=[],
            columns=3,
            fit_columns=False,
            height=200,
            object_fit="contain",
        )

    def take(self, chosen: gr.SelectData) -> list[str]:
        """The files of an example, as if they had been sent."""
        return [str(file) for file in self.examples[chosen.index].files]

    def segment(self, files: list[str] | None, chosen: list[str], before: Visit | None, progress: Any = gr.Progress()) -> tuple:  # noqa: B008
        """What was sent, through the chosen models, and all that is shown of it."""
        with told():
            forget(before)
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            models = {name: model for name, model in self.models.items() if name in chosen}
            try:
                visit = segment(models, [Path(file) for file in files or ()], folder, self.limit, progress, self.checks)
            except UserError:
                shutil.rmtree(folder)
                raise
            return self._shown(visit)

    def _shown(self, visit: Visit) -> tuple:
        names = list(visit.findings)
        first = visit.findings[names[0]]
        place, depth = visit.scene.fullest(first.masks) + 1, len(visit.scene.slices)
        choices = [IMAGE, *names]
        return (
            visit,
            gr.Markdown(html.escape(visit.warning()), visible=bool(visit.warning())),
            gr.HTML(as_html(visit.table(), visit.colours()), visible=True),
            gr.File(str(visit.download()), visible=True),
            gr.Row(visible=len(names) > 1),
            gr.Dropdown(choices, value=IMAGE),
            gr.Dropdown(choices, value=names[0]),
            gr.ImageSlider(look(visit, IMAGE, names[0], place), visible=True),
            gr.Slider(1, max(depth, 2), value=place, visible=depth > 1),
            *choose(visit, IMAGE, names[0], place),
        )

    def _introduction(self) -> str:
        labels = dict.fromkeys(label for model in self.models.values() for label in model.card.classes)
        classes = ", ".join(f"class {label}" if label.isdecimal() else label for label in labels)
        kept = "Nothing leaves the machine that shows this page; what you send is deleted there after an hour."
        return f"{html.escape(f'It outlines {classes}, as its models were trained to; check every outline.')} {kept}"

    def _wanted(self) -> str:
        what = "Volume, or zip of DICOM" if self.card.spatial_dims == 3 else "Picture"
        several = f": {described(self.card.image_files)}" if len(self.card.image_files) > 1 else ""
        return f"{what}{several}, up to {self.limit / MEGABYTE:.4g} MB"


@contextmanager
def told() -> Iterator[None]:
    """A ``UserError`` becomes its sentence on the page; there it is HTML, and names of files are no markup."""
    try:
        yield
    except UserError as error:
        raise gr.Error(html.escape(str(error)), duration=None, title="Not segmented", print_exception=False) from None


def forget(visit: Visit | None) -> None:
    """Delete what was kept of a visit."""
    if visit is not None:
        shutil.rmtree(visit.folder, ignore_errors=True)


def look(visit: Visit | None, left: str, right: str, place: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The two pictures on the sides of the handle; ``place`` counts from 1."""
    found = _kept(visit)
    return _side(found, left, place - 1), _side(found, right, place - 1)


def choose(visit: Visit | None, left: str, right: str, place: int) -> tuple:
    """The section of the probabilities: of the model on the right, else of that on the left; none without a threshold."""
    found = _model(_kept(visit), left, right)
    if found.probabilities is None:
        return gr.Accordion(visible=False), *[gr.skip()] * 4
    names, own = list(found.card.classes), found.card.threshold
    return (
        gr.Accordion(visible=True),
        gr.Dropdown(names, value=names[0], visible=len(names) > 1),
        gr.Slider(value=own, info=f"of the model: {own:g}"),
        *measure(visit, left, right, place, names[0], own),
    )


def measure(visit: Visit | None, left: str, right: str, place: int, label: str, threshold: float) -> tuple:
    """How large a class is at a threshold, and its probability with the contour there."""
    held = _kept(visit)
    found = _model(held, left, right)
    if found.probabilities is None:
        return gr.skip(), gr.skip()
    probability, mask = found.at_threshold(label, threshold)
    return f"{html.escape(label)}: {held.size(mask)}", held.scene.mapped(place - 1, probability, mask)


def _model(visit: Visit, left: str, right: str) -> Finding:
    return visit.findings.get(right) or visit.findings.get(left) or next(iter(visit.findings.values()))


def _side(visit: Visit, name: str, place: int) -> NDArray[np.uint8]:
    return visit.scene.bare(place) if name not in visit.findings else visit.scene.drawn(place, visit.findings[name].masks)


def _kept(visit: Visit | None) -> Visit:
    if visit is None:
        raise gr.Error("what you sent was deleted meanwhile: send it again.", print_exception=False)
    return visit


def serve(
    models: Mapping[str, Segmenter],
    folder: Path,
    limit: int,
    host: str,
    port: int | None,
    checks: Mapping[str, LikenessCheck] | None = None,
    examples: Sequence[Example] = (),
) -> tuple[gr.Blocks, str]:
    """Start the page in threads of this process; returns it, to wait for or to close, and its address.

    ``checks`` by name of the model tell whether an image is unlike those of its training; ``examples`` are offered to try.
    Gradio itself keeps copies of uploads in ``GRADIO_TEMP_DIR``. Raises ``UserError`` where the port is taken.
    """
    page = Page(models, folder, limit, checks, examples).blocks()
    theme = gr.themes.Default(**_FONTS)
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            max_file_size=limit,
            theme=theme,
            css=_CSS,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            inbrowser=False,
            allowed_paths=[],
            enable_monitoring=False,
            run_history=False,
            footer_links=[],
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            state_session_capacity=100,
        )
    except OSError:
        where = f"port {port}" if port else "every port that was tried"
        raise UserError(f"{where} of {host} is in use or not to be had: choose another --port, or --host.") from None
    return page, address
