"""The tables of the pages are what the records say."""

import json

import pytest

from benchmarks import report


@pytest.mark.parametrize("page", report.PAGES, ids=lambda page: page.name)
def test_a_page_is_what_the_records_say(page):
    text = page.read_text()
    assert "<!-- table: " in text
    assert report.filled(text, report.load(report.HERE / "results")) == text


def test_a_table_tells_days_and_commits():
    used = [{"commit": "c", "date": "2026-01-02"}, {"commit": "d", "date": "2026-01-02"}, {}]
    assert report.table(["a"], [["1"]], used).endswith("Measured on 2026-01-02 at c, d, unknown.")


def write(folder, name, *records):
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (folder / "compiled.json").write_text('{"now": {}}')


def test_the_last_record_of_a_thing_counts_and_trials_do_not(tmp_path):
    seen = {"preset": "mnist", "rarest_class": 0.05, "real_frechet_distance": 1.0}
    first, last = (
        {**seen, "seed": 0, "frechet_distance": d, "commit": "c", "device": "x", "cores": 2}
        for d in (9.0, 3.0)
    )
    tried = {**seen, "seed": 1, "frechet_distance": 99.0, "quick": True, "device": "x"}
    failed = {"benchmark": "quality", "error": "ValueError"}
    write(tmp_path, "quality", first, last, tried, failed)
    text = report.filled("a\n<!-- table: quality -->\nold\n<!-- end -->\nb", report.load(tmp_path))
    assert "| of 0.1 | `mnist` | 1 | 3.0 (3.0 to 3.0) | 5.0 % |" in text and "old" not in text
    assert text.startswith("a\n") and text.endswith("<!-- end -->\nb") and "Measured at c." in text


def test_distances_of_two_classifiers_stand_apart_each_with_its_floor():
    old = {"preset": "mnist", "seed": 0, "device": "x", "cores": 2, "rarest_class": 0.1}
    old |= {"frechet_distance": 9.0, "real_frechet_distance": 1.0}
    new = {**old, "frechet_distance": 40.0, "real_frechet_distance": 3.0, "extractor": "ab" * 32}
    text = report.quality([old, new])
    assert "| of 0.1 | `mnist` | 1 | 9.0 (" in text
    assert "| `abababababab` | `mnist` | 1 | 40.0 (" in text
    assert "| of 0.1 | training images instead of samples |  | 1.0 |" in text
    assert "| `abababababab` | training images instead of samples |  | 3.0 |" in text


@pytest.mark.parametrize(
    "text", ["<!-- table: nothing -->\n<!-- end -->", "<!-- table: quality -->\nnever closed"]
)
def test_a_marker_of_no_table_or_without_end_is_refused(text):
    with pytest.raises(ValueError, match="unknown or not closed"):
        report.filled(text, [])


def test_a_damaged_line_is_named(tmp_path):
    write(tmp_path, "loop")
    (tmp_path / "loop.jsonl").write_text('{"what": "overhead"}\n{"what"\n')
    with pytest.raises(ValueError, match=r"loop\.jsonl line 2 is no record"):
        report.load(tmp_path)
