"""``kronreid search``: find a person in a gallery."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kronreid.cli.options import (
    MATCHER_WEIGHT,
    add_blur,
    add_command,
    add_filters,
    add_gallery,
    add_login,
    check_shown,
    count,
    folder_must_exist,
    load_matcher,
    load_model,
    login,
    positive,
    selection_of,
    similarity,
    to_json,
    write,
)
from kronreid.errors import InputError
from kronreid.extras import require
from kronreid.text import say

if TYPE_CHECKING:
    from kronreid.cli.options import Commands
    from kronreid.gallery import Hit


def add(commands: "Commands") -> None:
    """Add the command."""
    sub = add_command(commands, "search", run, "Find a person in a gallery.")
    sub.add_argument("query", nargs="+", metavar="QUERY", help="one picture, or several of one person")
    add_gallery(sub)
    add_login(sub)
    sub.add_argument("--model", metavar="MODEL", help="the embedder that made the gallery, if it has moved")
    sub.add_argument(
        "--matcher",
        metavar="MODEL",
        help="re-score the best candidates with this matcher instead of the embedder's own places",
    )
    sub.add_argument("--top", type=positive, default=20, help="how many hits (20)")
    sub.add_argument(
        "--rerank-top",
        type=count,
        default=100,
        metavar="N",
        help="how many candidates are re-scored, 0 for none (100)",
    )
    sub.add_argument("--matcher-weight", type=float, metavar="W", help=MATCHER_WEIGHT)
    sub.add_argument(
        "--min-similarity",
        type=similarity,
        metavar="auto|X",
        help="show no hit below this similarity; auto: below one false alarm in a thousand searches, as "
        "kronreid calibrate measured it",
    )
    sub.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="keep the matcher's maps of candidates in this folder for later searches",
    )
    sub.add_argument(
        "--cache-size",
        type=positive,
        default=10_000,
        metavar="MB",
        help="the most that the cache may hold (10,000)",
    )
    add_filters(sub)
    sub.add_argument(
        "--group-by", metavar="KEY", help="group hits by identity, camera or an attribute like track"
    )
    sub.add_argument("--json", type=Path, metavar="FILE", help="write the hits")
    sub.add_argument("--html", type=Path, metavar="FILE", help="write a page with the pictures")
    add_blur(sub, "hits in that page", "tracklets or pictures")


def run(options: argparse.Namespace) -> None:
    """See `kronreid.gallery.Gallery.search`."""
    from kronreid.gallery import Gallery, MapCache
    from kronreid.memory import keep_memory

    keep_memory()
    from kronreid.models.calibration import similarity_limit

    for path, option in ((options.json, "--json"), (options.html, "--html")):
        if path:
            folder_must_exist(path, option)
    if options.html:
        require("--html", "figures")
    elif options.blur != "nobody":
        raise InputError("--blur", "is about the page of --html")
    check_shown(options)
    if options.cache and not options.matcher:
        raise InputError("--cache", "keeps a matcher's maps; name a matcher with --matcher")
    matcher = load_matcher(options.matcher) if options.matcher else None
    cache = MapCache(options.cache, options.cache_size * 10**6) if options.cache else None
    with Gallery(options.gallery, matcher=matcher, cache=cache, **login(options)) as gallery:
        if not options.model and not Path(gallery.model).exists():
            raise InputError(
                "--model", f"{options.gallery} was made by a model that is not at {gallery.model!r}; name it"
            )
        embedder = load_model(options.model or gallery.model, "--model")
        gallery.attach(embedder)
        selection = selection_of(options)
        limit = None
        if options.min_similarity is not None:
            size = gallery.counts(selection=selection)[()]
            limit = similarity_limit(options.min_similarity, embedder.calibration, size)
        result = gallery.search(
            options.query,
            options.top,
            options.rerank_top,
            matcher_weight=options.matcher_weight,
            selection=selection,
            group_by=options.group_by,
        )
    if limit is not None:
        result = result.above(limit.similarity)
    if options.json:
        write(options.json, to_json(result.as_dict()), "--json")
    if options.html:
        from kronreid.explain.pages.search import search_page

        explains = matcher or getattr(embedder, "matcher", None)
        page = search_page(
            result,
            options.query,
            explains,
            sources=gallery.sources,
            blurred=lambda hit: _blurred(hit, options),
        )
        write(options.html, page, "--html")
    for hit in result.hits:
        probability = "" if hit.probability is None else f"  match {hit.probability:.3f}"
        say(f"{hit.rank:4}  similarity {hit.similarity:.3f}{probability}  {hit.path}")
    if limit is not None and not result.hits:
        say(limit.nobody)
    say("  ".join(f"{stage} {1000 * seconds:.0f} ms" for stage, seconds in result.seconds.items()))
    for reason in result.unreadable:
        say(f"not re-scored: {reason}", file=sys.stderr)


def _blurred(hit: "Hit", options: argparse.Namespace) -> bool:
    """Whether a hit is unrecognisable in the page."""
    names = (hit.id, str(hit.attributes.get("track", "")))
    shown = any(name.startswith(beginning) for name in names for beginning in options.show)
    return options.blur == "all" or (options.blur == "others" and not shown)
