"""Answers about cameras and moments; see `kronreid.serve.schemas`.

Addresses
    GET    /api/cameras                       -> `Cameras`: what each camera has seen, and whether it runs
    GET    /api/moments/{id}                  -> `Moment`: the frames around a picture of a tracklet
    GET    /api/moments/{id}/frames/{number}  -> one of them, as JPEG
"""

from pydantic import BaseModel, Field

from kronreid.serve.schemas import Id

#: The most recordings of a camera in an answer.
RECORDINGS = 5


class RecordingItem(BaseModel):
    """A recording: a video, a folder of frames or a stream."""

    source: str = Field(description="The name of its file or folder, or its address without a password")
    live: bool = Field(description="A stream or a webcam")
    running: bool = Field(description="`kronreid track` follows it now")
    finished: bool = Field(description="Whoever followed it has stopped; false also if it was killed")
    began: str | None = Field(description="When following it last began, ISO 8601, UTC")
    updated: str | None = Field(description="When these numbers were written, every few seconds")
    frames: int = Field(description="Frames read since it began")
    frames_per_second: float = Field(description="In the last seconds; of one that does not run, on average")
    dropped: int = Field(description="Frames that a live source dropped because there was no time")
    damaged: int = Field(description="Frames that could not be decoded")
    error: str | None = Field(description="Why it ended before its end")


class CameraItem(BaseModel):
    """A camera."""

    camera: str | None
    running: bool = Field(description="One of its recordings is followed now")
    first: str | None = Field(description="When the first person was seen, ISO 8601, UTC")
    last: str | None = Field(description="When the last person was seen")
    tracklets: int
    people: int = Field(description="How many people it has seen, of those that are grouped")
    recordings: list[RecordingItem] = Field(
        description=f"Those that run, then the last ones; at most {RECORDINGS}"
    )
    more: int = Field(description="How many other recordings there are")


class Cameras(BaseModel):
    """The cameras of the gallery."""

    cameras: list[CameraItem]
    time: str | None = Field(description="The server's time, ISO 8601, UTC")


class MomentFrame(BaseModel):
    """A frame of a recording."""

    time: str | None = Field(description="When it was taken, ISO 8601, UTC")
    offset: float = Field(description="Seconds after the moment")
    picture: str = Field(description="The address of the frame")
    box: list[float] | None = Field(
        description="Left, top, width and height of the person, as shares of the frame; null if unknown"
    )


class Moment(BaseModel):
    """The moment that a picture was taken: the frames around it, if the recording is at hand."""

    item: Id
    camera: str | None
    time: str | None = Field(description="When the picture was taken, ISO 8601, UTC")
    source: str | None
    start: str | None = Field(description="When its tracklet begins")
    end: str | None = Field(description="When its tracklet ends")
    frames: list[MomentFrame] = Field(description="In order; empty if the recording is not at hand")
    at: int | None = Field(description="The place of the moment's own frame among them")
    width: int | None = Field(description="Of the recording's frames, in pixels")
    height: int | None
    missing: str | None = Field(description="Why there are no frames")
