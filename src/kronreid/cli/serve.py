"""``kronreid serve``: serve a gallery as a web page."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import add_command, add_gallery, load_matcher, load_model, positive
from kronreid.errors import InputError
from kronreid.extras import require
from kronreid.text import say

if TYPE_CHECKING:
    from kronreid.cli.options import Commands
    from kronreid.serve.settings import Settings


def add(commands: "Commands") -> None:
    """Add the command."""
    sub = add_command(commands, "serve", run, "Serve a gallery as a web page and an HTTP interface.")
    add_gallery(sub)
    sub.add_argument("--model", metavar="MODEL", help="the embedder that made the gallery, if it has moved")
    sub.add_argument(
        "--matcher",
        metavar="MODEL",
        help="a pair model that scores and explains pairs; without, the embedder's places do, if it has any",
    )
    sub.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    sub.add_argument("--port", type=int, default=8000, help="port (8000; 0 for any free one)")
    sub.add_argument(
        "--token",
        help="require this token; without, one is made and printed. KRONREID_TOKEN in the environment "
        "does the same, and the list of processes does not show it",
    )
    sub.add_argument(
        "--allow-host",
        nargs="+",
        default=[],
        metavar="NAME",
        help="host names that requests may use, besides IP addresses and localhost; then everything needs "
        "the token",
    )
    sub.add_argument(
        "--proxy",
        nargs="+",
        default=[],
        metavar="ADDRESS",
        help="addresses of the proxies in front of the server, which are believed who their clients are "
        "(FORWARDED_ALLOW_IPS in the environment does the same); then everything needs the token",
    )
    sub.add_argument("--allow-add", action="store_true", help="let the page add pictures to the gallery")
    sub.add_argument(
        "--reports", type=Path, metavar="DIR", help="folder with reports of evaluations, which the page lists"
    )
    sub.add_argument(
        "--audit",
        type=Path,
        metavar="FILE",
        help="log of who searched for what (STATE/audit.jsonl if everything needs a token, else none)",
    )
    sub.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="keep the matcher's maps of candidates in this folder",
    )
    sub.add_argument(
        "--sources",
        nargs="+",
        type=Path,
        default=[],
        metavar="DIR",
        help="open pictures below these folders only; without, below those that a gallery in a folder was "
        "filled from",
    )
    sub.add_argument(
        "--keep",
        metavar="TIME",
        help="delete pictures that were taken longer ago than this, like 30d or 12h, at the start and then "
        "every hour",
    )
    sub.add_argument(
        "--state", type=Path, metavar="DIR", help="folder for marks and added pictures (GALLERY.serve)"
    )
    sub.add_argument(
        "--upload-mb", type=positive, default=32, metavar="N", help="largest upload, in million bytes (32)"
    )
    sub.add_argument(
        "--upload-megapixels",
        type=positive,
        default=40,
        metavar="N",
        help="largest uploaded picture, in million pixels (40)",
    )
    sub.add_argument(
        "--upload-pictures",
        type=positive,
        default=16,
        metavar="N",
        help="the most pictures of an upload (16)",
    )
    sub.add_argument(
        "--threads", type=positive, default=8, metavar="N", help="searches that run at a time (8)"
    )
    sub.add_argument("--queue", type=positive, default=32, metavar="N", help="searches that may wait (32)")
    sub.add_argument(
        "--timeout", type=positive, default=30, metavar="N", help="seconds after which a request fails (30)"
    )


def run(options: argparse.Namespace) -> None:
    """See `kronreid.serve`."""
    require(options.prog, "serve", "gallery", "figures")
    from kronreid.data.decoding import warm
    from kronreid.gallery import Gallery
    from kronreid.serve.app import Application
    from kronreid.serve.batching import leave_processors
    from kronreid.serve.metrics import Metrics
    from kronreid.serve.server import address_of, listen, make_server
    from kronreid.serve.service import Service

    if options.cache and not options.matcher:
        raise InputError("--cache", "keeps a matcher's maps; name a matcher with --matcher")
    settings = make_settings(options)
    with listen(settings) as listener:
        model = options.model
        if not (model and options.allow_add):  # with both, an empty gallery may be made
            with Gallery(options.gallery) as gallery:
                model = model or gallery.model
            if not Path(model).exists():
                raise InputError(
                    "--model", f"{options.gallery} was made by a model that is not at {model!r}; name it"
                )
        metrics = Metrics()
        leave_processors()
        warm()
        embedder = load_model(model, "--model")
        matcher = load_matcher(options.matcher) if options.matcher else None
        service = Service(options.gallery, embedder, matcher, settings, metrics.batch.observe)
        server = make_server(Application(service, settings, metrics))
        address = address_of(settings, listener)
        say(f"{service.ready():,} pictures in {options.gallery}")
        say(f"open {address}?token={settings.token}" if not given(options) else f"open {address}")
        if settings.audit:
            say(f"audit log: {settings.audit}")
        say("stop with Ctrl-C", flush=True)
        server.run(sockets=[listener])


def given(options: argparse.Namespace) -> str | None:
    """The token, if the user chose one."""
    if options.token is not None:  # also an empty one, which is refused: its variable may not have been set
        return str(options.token)
    return os.environ.get("KRONREID_TOKEN") or None


def make_settings(options: argparse.Namespace) -> "Settings":
    """The options, as the server takes them."""
    from kronreid.gallery.upkeep import seconds_of
    from kronreid.serve.settings import Settings, is_loopback, networks, new_token, state_folder

    if not 0 <= options.port < 65536:
        raise InputError(f"--port {options.port}", "a number from 0 to 65535 is expected")
    token = given(options)
    named = [text for text in os.environ.get("FORWARDED_ALLOW_IPS", "").split(",") if text.strip()]
    proxies = networks(options.proxy, "--proxy") + networks(named, "FORWARDED_ALLOW_IPS")
    names = frozenset(name.lower() for name in options.allow_host)
    guarded = token is not None or not is_loopback(options.host) or bool(names or proxies)
    state = (options.state or state_folder(options.gallery)).absolute()
    audit = options.audit or (state / "audit.jsonl" if guarded else None)
    return Settings(
        state=state,
        token=new_token() if token is None else token,
        guarded=guarded,
        host=options.host,
        port=options.port,
        allow_add=options.allow_add,
        reports=options.reports,
        audit=audit and audit.absolute(),
        cache=options.cache,
        names=names,
        proxies=proxies,
        upload_bytes=options.upload_mb * 1_000_000,
        upload_pixels=options.upload_megapixels * 1_000_000,
        upload_pictures=options.upload_pictures,
        threads=options.threads,
        waiting=options.queue,
        timeout=options.timeout,
        sources=tuple(options.sources),
        keep=None if options.keep is None else seconds_of(options.keep),
    )
