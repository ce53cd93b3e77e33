"""Paths that a user wrote: what is expanded, what is refused, and how they are shown."""

import pathlib

import pytest

from jaxgan.errors import UserError
from jaxgan.paths import shown, user_path


def test_a_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert user_path("~/runs/x") == pathlib.Path("/home/someone/runs/x")
    assert user_path(pathlib.Path("~")) == pathlib.Path("/home/someone")
    for text in ("a/~/b", "runs [lr=1e-3]", "a:b", "/x/y"):
        assert user_path(text) == pathlib.Path(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("gs://bucket/run", r"is an address \(gs:\)"),
        ("s3://bucket", r"is an address \(s3:\)"),
        ("file:///tmp/x", r"is an address \(file:\)"),
        (pathlib.Path("gs://bucket/run"), r"is an address \(gs:\)"),  # pathlib drops a slash
        ("", "is empty"),
        ("  ", "is empty"),
        ("a\0b", "holds a zero byte"),
        ("\udcff", "is not UTF-8"),
        ("~nobody-of-this-name/x", "begins with a home folder that is not known here"),
        (3, "is int; give a path as text"),
    ],
)
def test_what_is_no_path_here_is_refused_by_one_line(text, reason):
    with pytest.raises(UserError, match=f"^workdir.*{reason}") as error:
        user_path(text, "workdir")
    assert str(error.value).isprintable()


def test_a_path_is_shown_on_one_line_of_bounded_length():
    assert shown("/a/b c") == "/a/b c"
    assert shown("a\nb\udcff") == r"a\nb\udcff"
    long = "/" + "x" * 4000 + "/end.png"
    assert len(shown(long)) == 120 and shown(long).endswith("/end.png")
