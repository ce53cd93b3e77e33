"""Options: read from text and from values, within bounds, and each mistake in one line."""

import dataclasses
import json
from typing import Literal, Optional

import pytest

from jaxgan import config
from jaxgan.config import RunOptions
from jaxgan.errors import UserError
from jaxgan.options import checked, dotted, fields, kind_of, option, replace, to_dict


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = option(0.5, "a rate", above=0.0, below=1.0)
    kind: Literal["a", "b"] = "a"


@dataclasses.dataclass(frozen=True)
class Outer:
    count: int = option(8, "a count", low=1)
    limit: int | None = option(None, "a limit", low=2)
    old: Optional[float] = None  # noqa: UP045  (as older code writes it)
    on: bool = True
    name: str = "x"
    choice: str = option("red", "a colour", choices=("red", "green"))
    inner: Inner = Inner()


def test_every_option_of_a_run_has_one_line_of_help():
    for name, field, _ in fields(RunOptions()):
        assert field.metadata["help"] and "\n" not in field.metadata["help"], name


def test_names_are_dotted_and_survive_json():
    changed = replace(Outer(), {"inner": {"rate": 0.25}, "limit": 3, "old": 1.5})
    values = to_dict(changed)
    assert values == {
        "count": 8,
        "limit": 3,
        "old": 1.5,
        "on": True,
        "name": "x",
        "choice": "red",
        "inner.rate": 0.25,
        "inner.kind": "a",
    }
    assert replace(Outer(), json.loads(json.dumps(values))) == changed
    assert dotted({"inner": Inner(), "log": {"every": {"n": 1}}}) == {
        "inner.rate": 0.5,
        "inner.kind": "a",
        "log.every.n": 1,
    }


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("count", "7", 7),
        ("count", 7.0, 7),
        ("count", "1_000", 1000),
        ("limit", "None", None),
        ("limit", "none", None),
        ("limit", None, None),
        ("limit", "4", 4),
        ("old", "1e-3", 1e-3),
        ("old", "none", None),
        ("on", "False", False),
        ("on", True, True),
        ("name", "none", "none"),
        ("name", 3, "3"),
        ("inner.rate", "0.25", 0.25),
        ("inner.kind", "b", "b"),
    ],
)
def test_text_and_values_are_read_as_the_fields_type(name, given, value):
    found = to_dict(replace(Outer(), {name: given}))[name]
    assert found == value and type(found) is type(value)


MISTAKES = [
    ("count", "0", "count=0 is too small; use 1 or more"),
    ("count", 0, "count=0 is too small; use 1 or more"),
    ("count", "ten", "count='ten' is not a whole number; use a whole number such as 8"),
    ("count", 1.5, "count=1.5 is not a whole number"),
    ("count", True, "count=True is not a whole number"),
    ("count", "none", "count='none' is not a whole number"),
    ("count", "9" * 5000, "is not a whole number"),
    ("limit", 1, "limit=1 is too small; use 2 or more"),
    ("limit", "x", "limit='x' is not a whole number; use a whole number such as 1"),
    ("inner.rate", 0.0, "inner.rate=0.0 is too small; use more than 0.0"),
    ("inner.rate", 1, "inner.rate=1.0 is too large; use less than 1.0"),
    ("limit", "-" + "9" * 3000, f"limit=-{'9' * 59}..9999999999 is too small; use 2 or more"),
    ("inner.rate", "nan", "inner.rate=nan is not a finite number; use one"),
    ("inner.rate", "x", "inner.rate='x' is not a number; use a number such as 0.5"),
    ("inner.kind", "c", "inner.kind: unknown value 'c'; use a, b"),
    ("on", "maybe", "on='maybe' is neither true nor false; use one of them"),
    ("choice", "gren", "choice: unknown value 'gren'; did you mean green"),
    ("cuont", 1, "unknown field 'cuont'; did you mean count"),
    ("inner.rat", 1, "unknown field 'inner.rat'; did you mean inner.rate"),
    ("inner", 3, "inner=3 is no group of options; give a dict, such as {'rate'"),
]


@pytest.mark.parametrize(("name", "given", "text"), MISTAKES, ids=[m[2][:45] for m in MISTAKES])
def test_a_mistake_is_named_with_its_numbers_and_the_fix(name, given, text):
    with pytest.raises(UserError) as error:
        replace(Outer(), {name: given})
    assert text in str(error.value) and "\n" not in str(error.value)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("hint", [list[int], int | str, dict, Literal[1, 2], tuple[int, int], None])
def test_a_type_that_no_text_can_be_read_as_is_refused(hint):
    assert kind_of(hint) is None
    field = dataclasses.field(default=0)
    field.type = hint
    with pytest.raises(UserError, match="option x is of type"):
        checked("x", field, 3)


def test_annotations_that_are_not_evaluated_are_read_too():
    """As below `from __future__ import annotations`."""
    kind = dataclasses.make_dataclass("Later", [("n", "int", 3)], frozen=True)
    assert replace(kind(), {"n": "7"}).n == 7


def test_options_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunOptions().steps = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "devices", "processes", "text"),
    [
        ({"batch_size": 100}, 8, 1, "batch_size=100 is not divisible by 8 devices; use 96 or 104"),
        (
            {"batch_size": 96, "devices": 4, "accumulate": 5},
            8,
            1,
            "batch_size=96 cannot be divided into accumulate=5 micro-batches on each of 4 devices; "
            "use a batch_size of 80 or 100",
        ),
        ({"batch_size": 3}, 8, 1, "batch_size=3 is not divisible by 8 devices; use 8"),
        ({"devices": 8}, 4, 1, "devices=8 but this machine has 4; use at most 4"),
        ({"devices": 8}, 4, 2, "devices=8 but these 2 processes have 4; use at most 4"),
        ({"devices": 3}, 4, 2, "devices=3 are not the same number in each of 2 processes; use 2"),
    ],
)
def test_a_run_that_cannot_be_divided_is_refused(changes, devices, processes, text):
    with pytest.raises(UserError) as error:
        config.check_run(replace(RunOptions(), changes), devices, processes)
    assert str(error.value).startswith(text)


def test_differences_name_what_makes_another_run():
    old = to_dict(RunOptions())
    may = {"steps": 9, "log.every": 7, "devices": 1, "kernels": "xla", "data.dir": "/elsewhere"}
    may |= {"accumulate": 4, "remat": "blocks"}
    assert not config.differences(old, {**old, **may})
    changed = config.differences(old, {**old, "dtype": "bfloat16", "seed": 3})
    assert changed == ["dtype was None, now 'bfloat16'", "seed was 0, now 3"]
