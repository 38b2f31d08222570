"""Addresses: passwords never leave them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kronreid.cameras.sources.addresses import camera_of, is_address, shown
from kronreid.errors import InputError


@pytest.mark.parametrize(
    ("address", "name", "camera"),
    [
        ("rtsp://cam1:554/Streaming/101", "rtsp://cam1:554/Streaming/101", "cam1:554/Streaming/101"),
        ("rtsp://admin:secret@cam1/live", "rtsp://admin@cam1/live", "cam1/live"),
        ("rtsp://admin:a@b/c?d#secret@cam1/live", "rtsp://admin@cam1/live", "cam1/live"),
        ("http://cam1/video?user=a&pwd=secret&x=1", "http://cam1/video?user=a&pwd=***&x=1", "cam1/video"),
        ("https://cam1/a.m3u8?access_token=secret", "https://cam1/a.m3u8?access_token=***", "cam1/a.m3u8"),
        ("http://[::1]:8080/?mail=a@b", "http://[::1]:8080/?mail=a@b", "[::1]:8080"),
        ("RTSP://cam1/", "RTSP://cam1/", "cam1"),
    ],
)
def test_names(address: str, name: str, camera: str) -> None:
    assert is_address(address)
    assert shown(address) == name
    assert camera_of(address) == camera


PASSWORD = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=12)


@settings(max_examples=60)
@given(password=PASSWORD, path=st.sampled_from(["", "/live", "/a/b?c=d", "?x=1#y"]))
def test_no_part_of_a_password_is_shown(password: str, path: str) -> None:
    marked = f"Qz7{password}Zq7"
    address = f"rtsp://admin:{marked}@camera.example{path}"
    for text in (shown(address), camera_of(address)):
        assert "Qz7" not in text
        assert "Zq7" not in text
    assert "camera.example" in shown(address)


@pytest.mark.parametrize(
    "name", ["pwd", "password", "Pass", "token", "access_token", "api_key", "sig", "auth"]
)
def test_secret_parameters_are_hidden(name: str) -> None:
    assert "hunter2" not in shown(f"http://cam/live?user=a&{name}=hunter2&b=c")


def test_what_is_no_address() -> None:
    for text in ("door.mp4", "/data/a:b/c.mp4", "c:\\videos\\a.mp4", "concat:a|b", ""):
        assert not is_address(text)
        assert shown(text) == text
    for text in ("rtsp://", "http:///path", "rtsp://user:pw@"):
        with pytest.raises(InputError, match="has no host"):
            is_address(text)
    with pytest.raises(InputError, match=r"^ftp://u@host/x: streams of this kind are not opened; use rtsp"):
        is_address("ftp://u:secret@host/x")
