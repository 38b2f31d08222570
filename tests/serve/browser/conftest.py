"""The page in a real browser, in front of a real server with tiny models."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from kronreid.serve.server import address_of, listen, make_server

from ..conftest import TOKEN, Home, Server, serve

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

#: Parts of Chromium that the tests do without. The address bar's two pop-ups are pages of their own, which
#: cost each new window a second of processor time. The others ask servers elsewhere, or delay what is drawn
#: or sent; Playwright switches them off as well, but Chromium obeys only the last such list.
UNUSED = (
    "WebUIOmniboxPopup",
    "WebUIOmniboxAimPopup",
    "AimEnabled",
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsFirstBalancedModeAutoEnable",
    "HttpsUpgrades",
    "LensOverlay",
    "MediaRouter",
    "NetworkTimeServiceQuerying",
    "OptimizationHints",
    "PaintHolding",
    "PreconnectToSearch",
    "ThirdPartyStoragePartitioning",
)
#: Keeps the text fields of the last form that was sent: the browser does not tell those of a multipart one.
SPY = """
const usual = window.fetch;
window.fetch = (address, options) => {
    if (options?.body instanceof FormData) {
        window.sentForm = {};
        for (const [name, value] of options.body) {
            if (typeof value === "string") (window.sentForm[name] ??= []).push(value);
        }
    }
    return usual(address, options);
};
"""
#: Every text on a plain ground whose contrast is below 4.5 to 1.
POOR_CONTRAST = """() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (text) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = text;
        canvas.fillRect(0, 0, 1, 1);
        return canvas.getImageData(0, 0, 1, 1).data;
    };
    const light = ([r, g, b]) => [r, g, b]
        .map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (element) => {
        for (; element; element = element.parentElement) {
            const colour = rgba(getComputedStyle(element).backgroundColor);
            if (colour[3] === 255) return colour;
        }
    };
    const found = [];
    for (const element of document.querySelectorAll("body *")) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !element.checkVisibility()) continue;
        if (element.closest(".unseen, .skip, svg, :disabled")) continue;
        const [a, b] = [rgba(getComputedStyle(element).color), ground(element)].map(light);
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) found.push([element.textContent.slice(0, 40), contrast.toFixed(2)]);
    }
    return found;
}"""
#: Every control without a name for screen readers.
NAMELESS = """() =>
        [...document.querySelectorAll("a, button, input, select, [role=application], [role=img]")]
        .filter((e) => e.checkVisibility() && e.type !== "file")
        .filter((e) => ![e.getAttribute("aria-label"), e.innerText, e.labels?.[0]?.innerText]
            .some((words) => words?.trim()))
        .map((e) => e.outerHTML.slice(0, 90))"""
REPORT = """<!doctype html><title>A small report</title>
<h1>Rank-1 12.3 %</h1><script>document.body.remove()</script>"""
#: The first of these is used. Without windows it takes less time.
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """Chromium; its event loop ends with this folder, so that other tests may run their own."""
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        pytest.skip("there is no Chromium: apt-get install chromium, or make browser as root")
    with playwright.sync_playwright() as tool:
        options = ["--disable-gpu", f"--disable-features={','.join(UNUSED)}"]
        browser = tool.chromium.launch(executable_path=chromium, args=options)
        yield browser
        browser.close()


@dataclass
class Site:
    """A server on a port of this machine."""

    server: Server
    address: str


@pytest.fixture
def site_of(home: Home, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Starts servers."""
    with ExitStack() as running:
        yield lambda **changes: running.enter_context(_Running(home, tmp_path / "site", **changes)).site


@pytest.fixture(scope="package")
def site(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server for tests that change nothing but marks."""
    reports = tmp_path_factory.mktemp("reports")
    (reports / "small.html").write_text(REPORT)
    with _Running(home, tmp_path_factory.mktemp("site"), reports=reports) as running:
        yield running.site


class _Running:
    """A server in a thread."""

    def __init__(self, home: Home, folder: Path, **changes: Any) -> None:
        server = serve(home, folder, port=0, **changes)
        listener = listen(server.settings)
        self.site = Site(server, address_of(server.settings, listener))
        self._web = make_server(server.application)
        self._thread = threading.Thread(target=self._web.run, kwargs={"sockets": [listener]})

    def __enter__(self) -> "_Running":
        self._thread.start()
        while not self._web.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._web.should_exit = True
        self._thread.join()


@dataclass
class Visit:
    """A page, and what went wrong in it.

    Attributes:
        page: Playwright's page, signed in.
        site: Where it is.
        expected: Statuses of answers that the test provokes; any other above 399 fails it.
        complaints: Beginnings of what the browser may say because the test provokes it.
    """

    page: Any
    site: Site
    expected: set[int] = field(default_factory=set)
    complaints: set[str] = field(default_factory=set)

    def open(self, view: str = "search") -> Any:
        """The page at one of its views, ready."""
        self.page.goto(f"{self.site.address}#/{view}")
        self.page.wait_for_selector("#whereabouts:not(:empty)", state="attached")
        return self.page

    def sent(self) -> dict[str, list[str]]:
        """The text fields of the last form that the page sent."""
        return self.page.evaluate("window.sentForm")

    def search(self, *photos: Path) -> Any:
        """The page after a search."""
        page = self.open()
        page.set_input_files("#view-search input[type=file]", photos)
        page.locator("#view-search .primary").click()
        page.wait_for_selector(".hit[data-rank]")
        return page


def unreadable(page: Any) -> list[list[str]]:
    """Every text with too little contrast, in the light and in the dark theme."""
    found = []
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        found += page.evaluate(POOR_CONTRAST)
    return found


def drawn(locator: Any) -> str:
    """The text of something in a hit: hits are drawn when they come into view, and read as empty before."""
    locator.scroll_into_view_if_needed()  # waits for two frames, too
    return locator.inner_text()


Visits = Callable[..., Visit]


@pytest.fixture
def visits(browser: Any, site: Site) -> Iterator[Visits]:
    """Opens pages. In the end there must have been no error, and no request to anywhere else."""
    made: list[tuple[Visit, list[str]]] = []
    with ExitStack() as contexts:

        def visit(
            width: int = 1280, height: int = 800, at: Site = site, token: str | None = TOKEN, **options: Any
        ) -> Visit:
            context = browser.new_context(viewport={"width": width, "height": height}, **options)
            contexts.callback(context.close)
            context.set_default_timeout(15_000)
            context.add_init_script(SPY)
            page = context.new_page()
            visit, trouble = Visit(page, at), []
            own = urlsplit(at.address).netloc

            def requested(request: Any) -> None:
                where = urlsplit(request.url)
                if where.scheme not in ("data", "blob") and where.netloc != own:
                    trouble.append(f"a request to {request.url}")

            def answered(response: Any) -> None:
                if response.status > 399 and response.status not in visit.expected:
                    trouble.append(f"{response.status} from {response.url}")

            def said(message: Any) -> None:
                known = visit.complaints | ({"Failed to load resource"} if visit.expected else set())
                if message.text.startswith(tuple(known)):
                    return
                if message.type in ("error", "warning"):
                    trouble.append(f"{message.type}: {message.text}")

            page.on("request", requested)
            page.on("response", answered)
            page.on("console", said)
            page.on("pageerror", lambda error: trouble.append(f"exception: {error}"))
            made.append((visit, trouble))
            if token:
                page.goto(f"{at.address}?token={token}")
            return visit

        yield visit
    assert [trouble for _, trouble in made] == [[] for _ in made]


@pytest.fixture
def visit(visits: Visits) -> Visit:
    """A page on a usual screen."""
    return visits()


@pytest.fixture(scope="session")
def frame(tmp_path_factory: pytest.TempPathFactory, home: Home) -> Path:
    """A full frame, 640 × 360, with one person: left 400, top 100, 64 wide, 128 high."""
    canvas = Image.new("RGB", (640, 360), (120, 130, 125))
    canvas.paste(Image.open(home.queries[0]).resize((64, 128)), (400, 100))
    path = tmp_path_factory.mktemp("frames") / "full frame.png"
    canvas.save(path)
    return path
