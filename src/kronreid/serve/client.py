"""A client of the server's HTTP API. It needs no extra."""

import csv
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any, Literal, TypeAlias

from kronreid.data.images import ImageLike, as_list
from kronreid.data.values import label, moment
from kronreid.errors import InputError
from kronreid.gallery.filters import EVERYTHING, Selection
from kronreid.serve import camera_schemas, people_schemas, schemas
from kronreid.serve.connection import Connection, Value, fields, upload
from kronreid.serve.marks import Mark
from kronreid.text import plain_cell

Words: TypeAlias = str | Sequence[str]

_ID = re.compile("[0-9a-f]{64}")


class Client(Connection):
    """Asks a running `kronreid serve`. Every route of its API is a method.

    A picture is a path, a PIL image, a uint8 array (H, W, 3) in RGB, or the identifier of a picture that the
    server knows (`Item.id`, `QueryPicture.id`). Answers are the models of `kronreid.serve.schemas`. An option
    that is None takes the server's default.

    Every method raises an `InputError` with the server's reason if the server refuses a request, and one that
    names its address if it cannot be reached.

    Args:
        url: The server's address. The address that the server prints, with its ``?token=``, is accepted.
        token: The server's token. Without it the server allows what docs/serve.md lists.
        timeout: Seconds to wait for an answer.

    Raises:
        InputError: The address or the token cannot be one.

    Example:
        >>> client = kronreid.Client("http://127.0.0.1:8000", token)
        >>> for hit in client.search("who.jpg", top=20).hits:
        ...     print(hit.rank, hit.name, hit.similarity)
    """

    # ── the server ──────────────────────────────────────────────────────────────────────────────────────

    def health(self) -> schemas.Health:
        """Whether the server runs."""
        return self._get(schemas.Health, "/api/health")

    def ready(self) -> schemas.Health:
        """Whether the server runs and its gallery answers; if not, `status` is ``unavailable``."""
        return self._get(schemas.Health, "/api/ready", also=503)

    def info(self) -> schemas.Info:
        """What the server can do, and which gallery it has."""
        return self._get(schemas.Info, "/api/info")

    def reports(self) -> schemas.Reports:
        """The reports that the server shows."""
        return self._get(schemas.Reports, "/api/reports")

    def login(self) -> None:
        """Check that the token is the server's; an `InputError` says that it is not."""
        if self._token is None:
            raise InputError("token", "is not set; give the one that the server printed")
        self._ask("POST", "/api/login", json={"token": self._token})

    def logout(self, everywhere: bool = False) -> None:
        """End sessions of browsers. The token stays valid.

        Args:
            everywhere: End all sessions. Without it, nothing ends: a client has a token and no session.
        """
        self._ask("POST", "/api/logout", [("everywhere", str(everywhere).lower())])

    # ── searching and comparing ─────────────────────────────────────────────────────────────────────────

    def search(
        self,
        query: ImageLike | Sequence[ImageLike],
        *,
        box: Words = (),
        top: int | None = None,
        offset: int | None = None,
        limit: int | None = None,
        rerank_top: int | None = None,
        matcher_weight: float | None = None,
        group_by: str | None = None,
        selection: Selection | None = None,
        **conditions: Any,
    ) -> schemas.SearchAnswer:
        """Find a person in the gallery.

        Args:
            query: One or several pictures of the person.
            box: The part of each uploaded picture that shows the person, ``x,y,width,height``.
            top: Hits to rank; groups, with `group_by`.
            offset: Hits to skip.
            limit: Hits in the answer.
            rerank_top: How many hits are re-scored.
            matcher_weight: The weight of the second score, 0 to 1.
            group_by: ``identity``, ``camera``, ``source`` or the name of an attribute.
            selection: Search only these; all without one.
            conditions: A short form: ``camera=3`` is ``selection=Selection(camera=3)``.
        """
        uploads = [self._picture(picture, "pictures", "item") for picture in as_list(query)]
        options = {
            "top": top,
            "offset": offset,
            "limit": limit,
            "rerank_top": rerank_top,
            "matcher_weight": matcher_weight,
            "group_by": group_by,
            **filters(selection, conditions),
            "box": box,
        }
        return self._send(schemas.SearchAnswer, "/api/search", [*uploads, *fields(options)])

    def match(self, a: ImageLike, b: ImageLike, *, a_box: str = "", b_box: str = "") -> schemas.MatchAnswer:
        """How similar two pictures are.

        Args:
            a: The first picture.
            b: The second picture.
            a_box: The part of an uploaded `a` that shows the person, ``x,y,width,height``.
            b_box: The same of `b`.
        """
        return self._send(schemas.MatchAnswer, "/api/match", self._pair(a, b, a_box, b_box))

    def explain(
        self, a: ImageLike, b: ImageLike, *, a_box: str = "", b_box: str = ""
    ) -> schemas.ExplainAnswer:
        """Why two pictures match, or do not. The arguments are those of `match`."""
        return self._send(schemas.ExplainAnswer, "/api/explain", self._pair(a, b, a_box, b_box))

    def picture(self, id: str, size: Literal["thumb", "full"] | None = None) -> bytes:
        """A picture of the gallery, cut to its box, as the bytes of a JPEG."""
        return self._ask("GET", f"/api/pictures/{_id(id)}", fields({"size": size}))

    # ── the gallery ─────────────────────────────────────────────────────────────────────────────────────

    def browse(
        self,
        *,
        offset: int | None = None,
        limit: int | None = None,
        selection: Selection | None = None,
        **conditions: Any,
    ) -> schemas.GalleryPage:
        """List pictures of the gallery.

        Args:
            offset: Pictures to skip.
            limit: Pictures in the answer.
            selection: Only these; all without one.
            conditions: A short form, see `search`.
        """
        options = {"offset": offset, "limit": limit, **filters(selection, conditions)}
        return self._get(schemas.GalleryPage, "/api/gallery", options)

    def stats(self, selection: Selection | None = None, **conditions: Any) -> schemas.GalleryStats:
        """Count the pictures of the gallery by camera and by hour.

        Args:
            selection: Only these; all without one.
            conditions: A short form, see `search`.
        """
        return self._get(schemas.GalleryStats, "/api/gallery/stats", filters(selection, conditions))

    def add(
        self,
        pictures: ImageLike | Sequence[ImageLike],
        *,
        box: Words = (),
        camera: str | None = None,
        time: str | None = None,
        identity: str | None = None,
        source: str | None = None,
        attribute: Words = (),
    ) -> schemas.AddAnswer:
        """Add pictures to the gallery. The server must have been started with ``--allow-add``.

        Args:
            pictures: One or several pictures.
            box: The part of each that shows the person, ``x,y,width,height``, in their order.
            camera: Which camera took them.
            time: When they were taken.
            identity: Who they show.
            source: Where they come from.
            attribute: ``key=value`` each.
        """
        uploads = [("pictures", upload(picture)) for picture in as_list(pictures)]
        options = {
            "box": box,
            "camera": camera,
            "time": time,
            "identity": identity,
            "source": source,
            "attribute": attribute,
        }
        return self._send(schemas.AddAnswer, "/api/gallery", [*uploads, *fields(options)])

    def delete(self, id: str) -> None:
        """Remove a picture from the gallery."""
        self._ask("DELETE", f"/api/gallery/{_id(id)}")

    def feedback(self, query: str, item: str, same: bool | None) -> None:
        """Mark whether a picture of the gallery shows the person of a query.

        Args:
            query: `QueryPicture.id` of a search, or a picture of the gallery.
            item: The identifier of a picture of the gallery.
            same: Whether it does; None removes an earlier mark.
        """
        self._ask("POST", "/api/feedback", json={"query": query, "item": item, "same": same})

    def marks(self) -> list[Mark]:
        """All marks that count, the last one of each pair."""
        text = self._ask("GET", "/api/feedback.csv").decode("utf-8", "replace")
        rows = csv.DictReader(io.StringIO(text, newline=""))
        try:
            return [
                Mark(**{key: plain_cell(value) for key, value in row.items()} | {"same": row["same"] == "1"})  # type: ignore[arg-type]
                for row in rows
            ]
        except (KeyError, TypeError, csv.Error):
            raise self._strange() from None

    # ── people ──────────────────────────────────────────────────────────────────────────────────────────

    def people(
        self,
        *,
        camera: Words = (),
        since: str | None = None,
        until: str | None = None,
        order: Literal["last", "first", "tracklets", "number"] | None = None,
        offset: int | None = None,
        limit: int | None = None,
    ) -> people_schemas.PeoplePage:
        """List the people that tracklets were grouped into.

        Args:
            camera: Seen by one of these cameras.
            since: Seen at this time or later.
            until: Seen at this time or earlier.
            order: Last seen first, first seen first, most tracklets first, or by number.
            offset: People to skip.
            limit: People in the answer.
        """
        options: dict[str, Any] = {"camera": camera, "since": since, "until": until}
        options |= {"order": order, "offset": offset, "limit": limit}
        return self._get(people_schemas.PeoplePage, "/api/people", options)

    def person(self, number: int) -> people_schemas.PersonDetail:
        """One person with all tracklets, and the people who look alike."""
        return self._get(people_schemas.PersonDetail, f"/api/people/{int(number)}")

    def cameras(self) -> camera_schemas.Cameras:
        """What each camera has seen, and whether it is followed now."""
        return self._get(camera_schemas.Cameras, "/api/cameras")

    def moment(self, id: str) -> camera_schemas.Moment:
        """The frames around the moment that a picture of a tracklet was taken."""
        return self._get(camera_schemas.Moment, f"/api/moments/{_id(id)}")

    def frame(self, id: str, number: int) -> bytes:
        """One of these frames, as JPEG.

        Args:
            id: The picture.
            number: The frame's place in `Moment.frames`.
        """
        return self._ask("GET", f"/api/moments/{_id(id)}/frames/{int(number)}")

    def merge(self, into: int, others: Sequence[int]) -> people_schemas.Done:
        """Say that several people are one. The number and the name of `into` stay."""
        return self._tell(people_schemas.Done, "/api/people/merge", {"into": into, "others": list(others)})

    def split(self, tracklets: Sequence[str], to: int | None = None) -> people_schemas.Done:
        """Say that some tracklets of a person show somebody else.

        Args:
            tracklets: Their identifiers.
            to: The number of the person that they show; None for a new one.
        """
        return self._tell(people_schemas.Done, "/api/people/split", {"tracklets": list(tracklets), "to": to})

    def name(self, number: int, name: str) -> people_schemas.Done:
        """Give a person a name; an empty one takes it away."""
        return self._tell(people_schemas.Done, f"/api/people/{int(number)}/name", {"name": name})

    def undo(self, change: int | None = None) -> people_schemas.Done:
        """Take back the last merge, split, name or grouping.

        Args:
            change: `Undoable.change`, if only that one must be taken back.
        """
        return self._tell(people_schemas.Done, "/api/people/undo", {"change": change})

    def _picture(self, picture: ImageLike, new: str, known: str) -> tuple[str, Value]:
        """The field of a picture: an upload, or the identifier of a picture that the server knows."""
        if isinstance(picture, str) and _ID.fullmatch(picture):
            return known, picture
        return new, upload(picture)

    def _pair(self, a: ImageLike, b: ImageLike, a_box: str, b_box: str) -> list[tuple[str, Value]]:
        pictures = [self._picture(a, "a", "a_item"), self._picture(b, "b", "b_item")]
        return [*pictures, *fields({"a_box": a_box or None, "b_box": b_box or None})]


def filters(selection: Selection | None, conditions: Mapping[str, Any]) -> dict[str, Any]:
    """A selection with further conditions, as fields of a request.

    Raises:
        InputError: A value cannot be a condition, or the server cannot be asked for it.
    """
    wanted = replace(selection or EVERYTHING, **conditions)
    wanted.conditions()  # refuses impossible values as a gallery in this process does
    found: dict[str, Any] = {}
    for name in ("camera", "identity", "source"):
        value = getattr(wanted, name)
        one = isinstance(value, str | bytes) or not isinstance(value, Iterable)
        if value is not None:
            found[name] = [_text(each) for each in ([value] if one else value)]
    for name in ("since", "until"):
        seconds = moment(getattr(wanted, name), end_of_day=name == "until")
        found[name] = None if seconds is None else repr(seconds)
    where = {name: getattr(wanted, name) for name in ("id", "path") if getattr(wanted, name) is not None}
    found["where"] = [_condition(name, value) for name, value in (where | dict(wanted.where)).items()]
    return found


def _condition(name: str, value: Any) -> str:
    """``name=value`` or ``name>=number``, as the server reads it."""
    key = name.rstrip("<>=")
    if any(sign in key for sign in "<>="):
        raise InputError(f"where {name}", "a server cannot be asked for a name with <, > or = in it")
    return f"{name}{'=' if key == name else ''}{_text(value)}"


def _text(value: Any) -> str:
    return os.fspath(value) if isinstance(value, str | PathLike) else label(value, "condition") or ""


def _id(id: str) -> str:
    if not _ID.fullmatch(id):
        raise InputError(id, "is no identifier of a picture; it has 64 hexadecimal digits")
    return id
