"""What tells a recording from all others, and the name that follows from that."""

import hashlib
from contextlib import closing

from kronreid.cameras.frames import Source
from kronreid.errors import InputError


def recording_name(source: Source) -> str:
    """The name of a recording; it begins with the camera's.

    It follows from the names of the source and the camera, and of a file also from its first frame and the
    time of that. So another video under the same name is another recording.

    Raises:
        InputError: A file has no frames.
    """
    parts = [source.camera.encode(errors="surrogateescape"), source.name.encode(errors="surrogateescape")]
    if not source.live:
        with closing(iter(source.frames())) as frames:  # type: ignore[type-var]
            first = next(frames, None)
        if first is None:
            raise InputError(source.name, "has no frames")
        parts += [repr(first.time).encode(), first.image.tobytes()]
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()
    plain = "".join(sign if sign.isalnum() else "_" for sign in source.camera)[:40]
    return f"{plain}-{digest[:16]}"
