"""Opening videos and streams with PyAV: only the named file or address is read, and frames are bounded.

A file can ask for other files and addresses: playlists, references between files, protocols of FFmpeg in a
name. A file is therefore opened by us and handed over open, only formats that hold their frames themselves
are read, and a stream may use the protocols of its own kind only.
"""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from kronreid.cameras.sources.addresses import shown
from kronreid.data.images import MAX_PIXELS
from kronreid.data.plain import open_plain
from kronreid.errors import InputError, one_line

#: The formats of files, by FFmpeg's names. None of them refers to other files.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,nut,ivf,dv,gif,"
    "h264,hevc,av1,obu,m4v,mjpeg"
)
#: The formats of streams, in addition.
STREAM_FORMATS = "rtsp,rtp,sdp,hls,mpjpeg,mjpeg_2000,jpeg_pipe"
#: What a stream may use, by the kind of its address.
PROTOCOLS = {
    "rtsp": "rtsp,rtp,tcp,udp,srtp",
    "rtsps": "rtsp,rtsps,rtp,tcp,udp,tls,srtp",
    "http": "http,tcp",
    "https": "https,tls,tcp",
}
#: Seconds to wait for a stream to open, and for its next packet.
TIMEOUT = 10.0
#: A file with more damaged places in a row is given up.
MOST_FAILURES = 100
_BUFFER = 1 << 18


@contextmanager
def opened_file(path: Path, follow: bool = True) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video file.

    Args:
        path: The file.
        follow: Whether the path may be a link.

    Yields:
        The container and its video.

    Raises:
        InputError: It is missing, no plain file, no video, or its codec is not supported.
    """
    try:
        handle = open_plain(path, follow=follow)
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror or 'it is no plain file'})") from None
    with os.fdopen(handle, "rb") as file:
        if not os.fstat(handle).st_size:
            raise InputError(path, "is empty")
        options = {
            "format_whitelist": FORMATS,
            "protocol_whitelist": "none",
            "correct_ts_overflow": "0",  # it takes a clock that was set back for one that overflowed
        }
        try:
            container = av.open(file, "r", options=options, metadata_errors="replace", buffer_size=_BUFFER)
        except (av.FFmpegError, OSError, ValueError, EOFError) as error:
            raise InputError(
                path, f"is not a video that can be read, or is damaged ({reason(error)})"
            ) from None
        with closing(container):
            yield container, video_of(container, str(path))


def opened_stream(text: str) -> InputContainer:
    """Open a stream or a webcam.

    Args:
        text: The address, or the device of a webcam.

    Raises:
        InputError: It cannot be reached. The message has no password.
    """
    scheme = text.partition("://")[0].lower()
    try:
        if scheme not in PROTOCOLS:
            return av.open(text, "r", format="v4l2", timeout=TIMEOUT)
        options = {
            "format_whitelist": f"{FORMATS},{STREAM_FORMATS}",
            "protocol_whitelist": PROTOCOLS[scheme],
        }
        if scheme.startswith("rtsp"):
            options["rtsp_flags"] = "prefer_tcp"
        return av.open(text, "r", options=options, timeout=TIMEOUT, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError, EOFError) as error:
        raise InputError(shown(text), f"cannot be opened ({reason(error)})") from None


@contextmanager
def closing(container: InputContainer) -> Iterator[None]:
    """Close a container at the end; a failure to close it is no news."""
    try:
        yield
    finally:
        with contextlib.suppress(av.FFmpegError, OSError):
            container.close()


def video_of(container: InputContainer, name: str) -> VideoStream:
    """The video of a container, ready to be decoded. A cover picture is none.

    Raises:
        InputError: There is none, its frames are too large, or there is no decoder for it.
    """
    videos = [
        one
        for one in container.streams
        if one.type == "video" and not one.disposition & av.stream.Disposition.attached_pic
    ]
    if not videos:
        kinds = ", ".join(sorted({one.type for one in container.streams})) or "nothing"
        raise InputError(name, f"has no video track (it has {kinds})")
    decodable = [one for one in videos if isinstance(one, VideoStream) and one.codec_context is not None]
    if not decodable:
        raise InputError(
            name, f"its codec is not supported by FFmpeg here{_tag(videos[0])}; convert it to H.264"
        )
    stream = decodable[0]
    context = stream.codec_context
    if context.width * context.height > MAX_PIXELS:
        raise InputError(
            name, f"has frames of {context.width} × {context.height} pixels, more than {MAX_PIXELS:,}"
        )
    context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def _tag(stream: av.stream.Stream) -> str:
    """The four letters by which a container names the codec, for a message."""
    try:
        return f" ({stream.codec_tag})"
    except (AttributeError, ValueError):  # without a decoder PyAV may not know it
        return ""


def upright(frame: av.VideoFrame) -> np.ndarray:
    """The pixels of a frame, (H, W, 3) uint8 RGB, turned as its container says.

    Raises:
        av.FFmpegError, ValueError: The frame cannot be converted.
    """
    image = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def reason(error: BaseException) -> str:
    """What FFmpeg says, in one line. Its messages include addresses with passwords, which are left out."""
    if isinstance(error, av.error.ExitError):
        return f"no answer for {TIMEOUT:.0f} s"
    return (getattr(error, "strerror", None) or one_line(error) or type(error).__name__).rstrip(".")
