"""The commands that work on a gallery, on a file and on a server, with models that only look at colours."""

import json
import subprocess
import sys

import pytest

from kronreid.cli import main
from kronreid.gallery import Gallery

from .conftest import ColourEmbedder


@pytest.fixture
def run(place, monkeypatch):
    """Runs a command on the gallery of this place; gives its exit status."""
    models = {"colours": ColourEmbedder()}
    for module in ("index", "search"):
        monkeypatch.setattr(f"kronreid.cli.{module}.load_model", lambda path, option: models[path])

    def run(command, *arguments, login=True):
        where = ["--gallery", place.uri]
        if login and "token" in place.options:
            where += ["--token", place.options["token"]]
        return main([str(word) for word in (command, *arguments, *where)])

    return run


def test_a_gallery_is_filled_changed_and_searched(run, crops, tmp_path, capsys):
    known = ["--set", "source=monday", "time=2026-03-01T12:00", "weather=rain"]
    assert run("index", crops, "--model", "colours", *known) == 0
    assert "20 added, 0 already there, 0 unreadable; 20 in" in capsys.readouterr().out
    assert run("gallery", "update", "--camera", "2", "--set", "camera=door", "identity=", "weather=sun") == 0
    assert capsys.readouterr().out == "10 changed\n"
    query, file = crops / "0007_c1s1_000007_00.png", tmp_path / "hits.json"
    for where, cameras in {
        "weather=sun": {"door"},
        "weather=rain": {"1"},
        "source=monday": {"1", "door"},
    }.items():
        options = ["--where", where, "--since", "2026-03-01", "--json", file]
        assert run("search", query, "--model", "colours", *options) == 0
        hits = json.loads(file.read_text())["hits"]
        assert {hit["camera"] for hit in hits} == cameras
        assert {hit["identity"] is None for hit in hits if hit["camera"] == "door"} <= {True}
    assert run("gallery", "delete", "--where", "weather=sun") == 0
    capsys.readouterr()
    assert run("gallery", "verify") == 0
    assert "10 checked: all intact" in capsys.readouterr().out


def test_conditions_are_by_name_and_all_hold(run, crops, capsys):
    def listed(*conditions):
        assert run("gallery", "list", *conditions) == 0
        return len(capsys.readouterr().out.splitlines())

    assert run("index", crops / "*_c1*", "--model", "colours", "--set", "track=7.0", "identity=") == 0
    assert run("index", crops / "*_c2*", "--model", "colours", "--set", "camera=", "source=-1") == 0
    capsys.readouterr()
    assert listed("--where", "camera=1") == listed("--camera", "1") == listed("--where", "track=7") == 10
    assert listed("--camera", "") == listed("--where", "camera=-1") == listed("--where", "track=") == 10
    assert listed("--where", "source=-1") == 10
    assert listed("--where", "identity=") == 10
    assert listed("--where", "identity=3") == listed("--where", f"path={crops}", "identity=3") == 1
    assert listed("--where", "identity=3", "--where", "camera=1") == 0, "both options hold"
    assert listed("--camera", "1", "--where", "camera=") == 0
    assert run("gallery", "update", "--where", "track=7", "--set", "track=", "--set", "seen=True") == 0
    assert listed("--where", "track=") == 20 + 1, "and the line that says how many were changed"
    assert listed("--where", "seen=true") == 10


def test_records_that_are_not_usable_are_listed(run, crops, tmp_path, capsys):
    names = sorted(path.name for path in crops.iterdir())[:2]
    rows = [f"{name},1,0,0,9,{height}" for name, height in zip(names, (9, 0))]
    (crops / "l.csv").write_text("\n".join(["file,camera,x,y,w,h", *rows]))
    assert run("index", crops / "l.csv", "--model", "colours") == 0
    said = capsys.readouterr()
    assert "1 added, 0 already there, 1 unreadable; 1 in" in said.out
    assert f"{crops / 'l.csv'}: row 2: box " in said.err
    assert run("index", crops / "l.csv", "--model", "colours", "--category", "car") == 2
    assert f"--category: {crops / 'l.csv'} has no categories" in capsys.readouterr().err


def test_old_pictures_are_forgotten(run, place, crops, capsys):
    """A folder says that the bytes are gone; a server removes them in its own time."""
    assert run("index", crops / "*_c1*", "--model", "colours", "--set", "time=2001-01-01", "track=7") == 0
    assert (
        run("index", crops / "*_c2*", "--model", "colours", "--set", "time=2001-01-01", "--keep", "30d") == 0
    )
    assert "20 deleted, since they were taken longer ago than 30d" in capsys.readouterr().out
    assert run("index", crops / "*_c1*", "--model", "colours", "--set", "time=2001-01-01", "track=7") == 0
    assert run("index", crops / "*_c2*", "--model", "colours", "--set", "track=12") == 0
    capsys.readouterr()
    assert run("gallery", "expire", "--keep", "4w", "--where", "track>7") == 0
    said = capsys.readouterr().out
    assert said.startswith("0 deleted; 20 left\nremoved what was taken until 20")
    assert "this computer's clock says 20" in said
    assert run("gallery", "expire", "--keep", "4w", "--where", "track<=7") == 0
    gone = "nothing of them is left in the gallery's files"
    assert (gone in capsys.readouterr().out) == (not place.uri.startswith("http"))
    assert run("gallery", "list", "--where", "track>=12", "track<13") == 0
    assert len(capsys.readouterr().out.splitlines()) == 10
    assert run("gallery", "repair") == 0
    assert "0 given up, 10 kept" in capsys.readouterr().out
    assert run("gallery", "index") == 0


def test_until_a_day_includes_the_day(run, crops, capsys):
    assert run("index", crops, "--model", "colours", "--set", "time=2024-05-01T23:59:59") == 0
    capsys.readouterr()
    for until, count in {"2024-05-01": 20, "2024-05-01T12:00": 0, "2024-04-30": 0}.items():
        assert run("gallery", "list", "--until", until) == 0
        assert len(capsys.readouterr().out.splitlines()) == count


def test_output_that_cannot_be_written_is_refused_before_the_work(run, crops, tmp_path, capsys):
    for option in ("--json", "--html"):
        assert run("search", crops / "none.png", option, tmp_path / "none" / "x") == 2
        assert f"{option} {tmp_path}/none/x: there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "who.jpg", "--blur", "all"], "--blur: is about the page of --html"),
        (["search", "who.jpg", "--html", "x", "--blur", "others"], "--show: names whom --blur others shows"),
        (["search", "who.jpg", "--show", "a1"], "--show: names whom --blur others shows"),
        (["gallery", "update", "--camera", "1"], "--set: says what update changes"),
        (["gallery", "delete", "--camera", "1", "--set", "camera=2"], "--set: says what update changes"),
        (["gallery", "update", "--set", "camera=2"], "no condition given"),
        (["gallery", "update", "--camera", "1", "--set", "camera"], "--set 'camera': must be key=value"),
        (["gallery", "update", "--camera", "1", "--set", "time=noon"], "time 'noon'"),
        (
            ["gallery", "update", "--camera", "1", "--set", "path=x"],
            "attributes: path is the name of a field",
        ),
        (["gallery", "update", "--camera", "1", "--set", "a=1", "a=2"], "--set a: is given twice"),
        (["gallery", "list", "--where", "a=1", "--where", "a=2"], "--where a: is given twice"),
        (["gallery", "list", "--where", "time=2026-03-01"], "where time: is asked for by since and until"),
        (["gallery", "list", "--path", ""], "path: is empty"),
        (["gallery", "list", "--where", "track>=many"], "where track>=many: only numbers can be compared"),
        (["gallery", "list", "--where", "camera>3"], "where camera>: camera is text"),
        (["gallery", "list", "--where", "a>1", "a>2"], "--where a>: is given twice"),
        (["gallery", "list", "--where", ">1"], "--where '>1': must be key=value, or key>=value"),
        (["gallery", "expire"], "--keep: says how long expire keeps pictures"),
        (["gallery", "expire", "--keep", "soon"], "--keep soon: a number with s, m, h, d or w expected"),
        (["gallery", "info", "x.db", "y"], "x.db y: info takes no files; name it with --gallery"),
        (["gallery", "list", "--since", ""], "since '': a time expected"),
        (["gallery", "info", "--collection", "2026_03_01"], "--collection '2026_03_01': a name has"),
        (["search", "x.png", "--collection", "../people"], "--collection '../people': a name has"),
        (["search", "x.png", "--cache", "maps"], "--cache: keeps a matcher's maps"),
    ],
)
def test_what_makes_no_sense_is_said(run, crops, capsys, arguments, message):
    assert run("index", crops, "--model", "colours") == 0
    capsys.readouterr()
    assert run(*arguments) == 2
    assert capsys.readouterr().err.startswith(f"kronreid: error: {message}")


def test_a_file_is_no_place_for_many_machines(tmp_path, crops, capsys):
    where = ["--gallery", str(tmp_path / "people.gallery"), "--model", "none", "--ray", "local"]
    assert main(["index", str(crops), *where]) == 2
    assert "many machines need a Milvus server" in capsys.readouterr().err


def test_wrong_credentials_are_named(server, crops, capsys, monkeypatch):
    monkeypatch.setattr("kronreid.gallery.milvus_connection.PATIENCE_SECONDS", 1.0)
    for token in ([], ["--token", "root:wrong"]):
        assert main(["gallery", "info", "--gallery", server.uri, *token]) == 2
        assert "the server refuses these credentials" in capsys.readouterr().err
    with server.open(ColourEmbedder()) as gallery:
        gallery.add(crops)
    monkeypatch.setenv("MILVUS_TOKEN", server.options["token"])
    assert main(["gallery", "info", "--gallery", server.uri]) == 0
    assert "20 pictures, 64 dimensions" in capsys.readouterr().out


def test_looking_after_a_gallery_does_not_import_torch(tmp_path, crops):
    with Gallery(tmp_path / "people.gallery", ColourEmbedder()) as gallery:
        gallery.add(crops, progress=False)
    code = (
        "import sys; from kronreid.cli import main\n"
        "for action in ('info', 'list', 'verify'):\n"
        f"    assert main(['gallery', action, '--gallery', {str(tmp_path / 'people.gallery')!r}]) == 0\n"
        "    assert 'torch' not in sys.modules, action"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
