"""The page in a real browser: Chromium of the system, driven by Playwright, of which no browser is downloaded."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from PIL import Image

from allukan.inference import find_images, predict_files

APP = Path(os.environ.get("APP_PACKAGES", Path(sys.prefix) / "app"))  # where make installs them, apart from all else
sys.path.append(str(APP))
playwright = pytest.importorskip("playwright.sync_api", reason=f"playwright is neither installed nor in {APP}: see the Makefile")
NO_GRADIO = find_spec("gradio") is None  # not imported here: it warns, and leaves sockets open
sys.path.remove(str(APP))  # other tests see none of it
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NO_GRADIO, reason=f"gradio is neither installed nor in {APP}: see the Makefile"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium"),
]


@pytest.fixture(scope="module")
def offered(tmp_path_factory):
    """A folder of one example and what is none."""
    folder = tmp_path_factory.mktemp("offered")
    Image.radial_gradient("L").resize((48, 40)).save(folder / "ring.png")
    (folder / "secret.txt").write_text("mine")
    return folder


@pytest.fixture(scope="module")
def served(folders, offered, tmp_path_factory):
    """The address of ``allukan app`` with one model, and the folder of its temporary files, which is empty again at the end."""
    root = tmp_path_factory.mktemp("served")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([*([str(APP)] if APP.is_dir() else []), *filter(None, sys.path)])  # its pillow is in front of ours
    command = [sys.executable, "-m", "allukan", "app", str(folders["binary"]), "--port", str(port), "--max-upload", "1"]
    command += ["--examples", str(offered)]
    env = os.environ | {"TMPDIR": str(root), "PYTHONPATH": path}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=env, preexec_fn=_heeds_ctrl_c) as app:
        assert f"http://127.0.0.1:{port}" in app.stdout.readline()
        yield f"http://127.0.0.1:{port}", root
        app.send_signal(signal.SIGINT)
    assert list(root.iterdir()) == []


def _heeds_ctrl_c():
    """In the background of a shell, where tests may run, SIGINT is ignored, and the server would be waited for without end."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Visitor:
    """A browser of its own at the page; notes requests to other hosts and errors on the console."""

    def __init__(self, driver, address):
        self.browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        self.page, self.strange = self.browser.new_page(), []
        self.page.on("request", lambda r: r.url.startswith((address, "data:", "blob:")) or self.strange.append(r.url))
        self.page.on("console", lambda m: m.type == "error" and self.strange.append(m.text))
        self.page.goto(address)

    def send(self, path):
        self.page.locator("input[type=file]").first.set_input_files(path)

    def fetch(self, name):
        """The bytes of the mask, and its address."""
        self.page.locator(".sizes table").wait_for()
        link = self.page.locator(f"a[download='{name}']").last
        with self.page.expect_download() as download:
            link.click()
        return download.value.path().read_bytes(), link.get_attribute("href")


def test_a_visit(served, predictors, picture, tmp_path):
    """Upload, result, download, a bad file: in one browser, since starting one is what takes the time."""
    address, root = served
    list(predict_files(predictors["binary"], find_images([picture], predictors["binary"].card), tmp_path / "out"))
    bad = tmp_path / "<b>bad.png"
    bad.write_bytes(picture.read_bytes()[:40])
    with playwright.sync_playwright() as driver:
        visitor = Visitor(driver, address)
        visitor.send(picture)
        content, _ = visitor.fetch("scan.png")
        assert content == (tmp_path / "out/masks/scan.png").read_bytes()
        assert visitor.page.locator(".sizes td").first.inner_text() == "lesion"
        assert visitor.page.locator("img").count() >= 2  # on both sides of the handle
        visitor.page.get_by_text("Probability and threshold").click()
        visitor.page.get_by_text("lesion: ").wait_for()
        assert visitor.strange == []
        visitor.page.reload()
        visitor.send(bad)
        told = visitor.page.locator(".toast-body").first
        told.wait_for()
        assert "bad.png" in told.inner_text()
        assert "Traceback" not in told.inner_text()
        assert str(root) not in told.inner_text()
        visitor.browser.close()


def test_an_example_is_segmented_as_if_it_was_sent(served, offered, predictors, tmp_path):
    address, root = served
    list(predict_files(predictors["binary"], find_images([offered / "ring.png"], predictors["binary"].card), tmp_path / "out"))
    with playwright.sync_playwright() as driver:
        visitor = Visitor(driver, address)
        visitor.page.get_by_role("button", name="Thumbnail 1 of 1").click()
        content, _ = visitor.fetch("ring.png")
        assert content == (tmp_path / "out/masks/ring.png").read_bytes()
        assert visitor.strange == []
        assert visitor.page.get_by_text("ring", exact=True).count()
        assert "secret" not in visitor.page.content()
        visitor.browser.close()
    assert not list(root.rglob("secret*"))
    check_refused(address, [offered / "ring.png", offered / "secret.txt", next(root.glob("*/examples"))])


def check_refused(address, paths):
    """By path nothing is to be had."""
    for path in paths:
        with pytest.raises(HTTPError) as refused:
            urlopen(f"{address}/gradio_api/file={quote(str(path))}")
        refused.value.close()
        assert refused.value.code in (403, 404)


def test_two_visitors_at_once_get_their_own(served, predictors, picture, tmp_path):
    address, root = served
    pictures = [picture, tmp_path / "sent" / "other.png"]
    Image.open(picture).transpose(Image.Transpose.ROTATE_180).save(pictures[1])
    expected = []
    for number, path in enumerate(pictures):
        list(predict_files(predictors["binary"], find_images([path], predictors["binary"].card), tmp_path / str(number)))
        expected.append((tmp_path / str(number) / "masks" / path.name).read_bytes())
    assert expected[0] != expected[1]

    def visit(path):
        with playwright.sync_playwright() as driver:
            visitor = Visitor(driver, address)
            visitor.send(path)
            content, link = visitor.fetch(path.name)
            shown = visitor.page.content()
            visitor.browser.close()
        return content, link, shown

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(visit, pictures))
    assert [content for content, _, _ in found] == expected
    assert found[0][1] != found[1][1]
    assert "other.png" not in found[0][2]
    assert "scan.png" not in found[1][2]
    masks = list(root.glob("*/visits/**/*.png"))
    assert len(masks) >= 2
    check_refused(address, [*masks, next(root.glob("*/gradio")), picture, "/etc/passwd"])
