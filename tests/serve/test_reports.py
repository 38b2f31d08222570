"""Only pages below the reports' folder, by their names in the listing."""

import os
from pathlib import Path

import pytest

from kronreid.serve.reports import content, listing

from .conftest import Start


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Reports, and what is none."""
    root = tmp_path / "reports"
    (root / "run 1").mkdir(parents=True)
    (root / "run 1" / "index.html").write_text("<title>Run &amp; more</title><p>fine")
    (root / "plain.html").write_text("no title")
    (root / "metrics.json").write_text("{}")
    (root / ".hidden.html").write_text("x")
    (tmp_path / "secret.html").write_text("secret")
    (root / "link.html").symlink_to(tmp_path / "secret.html")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "other.html").write_text("secret")
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    return root


def test_links_and_hidden_files_are_not_listed(folder: Path) -> None:
    assert set(listing(folder)) == {"run 1/index.html", "plain.html"}
    for name in ("link.html", "folder/other.html", "../secret.html", str(folder.parent / "secret.html"), ""):
        assert content(folder, name) is None


def test_what_would_block_or_cannot_be_read_is_no_report(folder: Path, start: Start) -> None:
    os.mkfifo(folder / "pipe.html")
    (folder / "folder.html").mkdir()
    client = start(reports=folder, timeout=5).client
    names = [report["name"] for report in client.get("/api/reports").json()["reports"]]
    assert sorted(names) == ["plain.html", "run 1/index.html"]
    for name in ("pipe.html", "folder.html"):
        assert client.get(f"/reports/{name}").status_code == 404


def test_a_report_that_goes_while_it_is_asked_for_is_not_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(root: Path, name: str, most: int) -> bytes:
        raise FileNotFoundError(name)

    monkeypatch.setattr("kronreid.serve.reports.read_below", gone)
    assert content(folder, "plain.html") is None


def test_reports_are_listed_and_opened_without_scripts(folder: Path, start: Start) -> None:
    client = start(reports=folder).client
    found = {report["name"]: report for report in client.get("/api/reports").json()["reports"]}
    assert found["run 1/index.html"]["title"] == "Run & more"
    assert found["plain.html"]["title"] == "plain.html"
    page = client.get(found["run 1/index.html"]["url"])
    assert page.text.endswith("fine")
    assert "sandbox" in page.headers["content-security-policy"]
    assert "script" not in page.headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "SAMEORIGIN"
    for path in ("/reports/link.html", "/reports/..%2fsecret.html", "/reports/%2e%2e/secret.html"):
        assert client.get(path).status_code == 404
    (folder / "plain.html").unlink()
    assert client.get("/reports/plain.html").status_code == 404


def test_without_a_folder_there_are_none(start: Start) -> None:
    client = start(full=False).client
    assert client.get("/api/reports").json() == {"reports": []}
    assert client.get("/reports/a.html").status_code == 404
