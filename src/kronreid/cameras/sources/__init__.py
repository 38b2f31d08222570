"""Sources of frames: video files, folders of frames, MOT sequences, streams and webcams.

docs/cameras.md says what is read, and where the times come from.
"""

from pathlib import Path

from kronreid.cameras.frames import Source
from kronreid.cameras.sources.addresses import is_address, kinds, shown
from kronreid.cameras.sources.files import VideoFile
from kronreid.cameras.sources.folders import FrameFolder
from kronreid.cameras.sources.live import LiveSource
from kronreid.data.values import moment
from kronreid.errors import InputError

__all__ = ["FrameFolder", "LiveSource", "VideoFile", "open_source"]

#: The names of webcams.
WEBCAM = "/dev/video"


def open_source(
    text: str, camera: str | None = None, start: str | float | None = None, rate: float | None = None
) -> Source:
    """Open a source of frames.

    Args:
        text: A video file, a folder of frames, a MOT sequence, an address (``rtsp://``, ``rtsps://``,
            ``http://`` or ``https://``) or a webcam like ``/dev/video0``.
        camera: The camera's name; None derives it from the name of the file, folder or stream.
        start: When the first frame was taken, as `kronreid.data.values.moment` reads it. None takes the time
            from the container, the name, or the modification time of the file.
        rate: Frames per second to return; None returns all frames. A source never returns more frames than
            it has. For a folder whose frames have no times it is the folder's own rate.

    Raises:
        InputError: There is no such source, it has no frames that can be decoded, or an option does not fit.
    """
    if rate is not None and not 0 < rate < float("inf"):
        raise InputError(f"{text}: rate {rate}", "must be a number above 0")
    begin = moment(start)
    if is_address(text) or text.startswith(WEBCAM):
        if begin is not None:
            raise InputError(shown(text), "is live, so its times are those of the clock; give no start")
        return LiveSource(text, camera, rate)
    path = Path(text)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:  # no permission, or a name that no file can have
        raise InputError(text, f"cannot be opened ({getattr(error, 'strerror', None) or error})") from None
    if not exists:
        raise InputError(text, f"no such file or folder (a stream begins with {kinds()})")
    return (FrameFolder if is_folder else VideoFile)(path, camera, begin, rate)
