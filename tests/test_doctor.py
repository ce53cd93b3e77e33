"""The doctor's page: it names nobody, advises where that is due and not otherwise, and whatever is
broken costs a line."""

import copy
import getpass
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading

import pytest
from runs import ROOT, command, holding

from jaxgan.cli import main
from jaxgan.doctor import devices, gathering, places, private, versions
from jaxgan.doctor.advice import advise
from jaxgan.doctor.page import page

GIB = 2**30
ABLE = dict.fromkeys(("writable", "lock", "link", "symlink", "rename", "replace"), True)
PLACE = {"path": "~/x", "free": 50 * GIB, "total": 90 * GIB, "type": "ext4", "clock": 0.0, **ABLE}
CACHE = {"path": "~/x", "files": 3, "bytes": 9, "complete": True, "there": True, "writable": True}
PACKAGES = ("jax", "triton", "jax-cuda12-plugin", "jax-cuda13-plugin")
CPU = {"kind": "cpu", "platform": "cpu", "memory": None, "used": None}
GPU = {"kind": "H100", "platform": "gpu", "memory": 80 * GIB, "used": 0}
KERNELS = {"xla": True, "plain": True, "triton": "needs a GPU", "interpret": True, "auto": "xla"}
SOUND = {
    "machine": {
        **{"jaxgan": "1", "python": "3", "environment": True, "system": "L", "architecture": "a"},
        **{"cpu": "c", "cores": 4, "usable": 4, "quota": None, "year": 2030, "behind": -9.0},
    },
    "memory": {"total": 64 * GIB, "free": 32 * GIB, "limit": None},
    "software": {"versions": dict.fromkeys(PACKAGES), "mismatches": []},
    "jax": {
        "imported": True,
        "devices": [CPU],
        "driver": {"gpus": 0},
        "backend": "cpu",
        "kernels": KERNELS,
    },
    "environment": {"set": {"LANG": "C.UTF-8"}, "proxies": []},
    "caches": {"compiled programs": CACHE},
    "data_sets": [
        {"name": "d", "version": "1", "format": "array_record", "examples": 3, "bytes": 9}
    ],
    "file_systems": {"runs": PLACE, "temporary files": {**PLACE}},
    "terminal": {
        **{"terminals": ["stdout"], "encoding": "UTF-8", "width": 80},
        **{"locale": "C", "files": "utf-8"},
    },
    "limits": {"NOFILE": 1024, "FSIZE": None, "AS": None, "CORE": 0, "NPROC": None},
}
PLUGIN, TRITON = "software.versions.jax-cuda12-plugin", "software.versions.triton"
DEVICES, GPUS = "jax.devices", "jax.driver.gpus"
RUNS = "file_systems.runs."
GIVEN = "environment.set."
WRONG = [{"package": "optax", "version": "0.1", "wanted": ">=0.2.5"}]
MISSING = [{"package": "flax", "version": None, "wanted": ">=0.12"}]
BAD = [{"name": "d", "version": "1", "format": "tfrecord", "examples": 3, "bytes": 9}]
# What is otherwise than on a sound machine -> how the one line of advice begins.
DUE = [
    ({"memory.free": GIB // 2}, "memory: 512.0 MiB are free"),
    ({"machine.quota": 1.5}, "cores: the container leaves 1.5 of 4"),
    ({RUNS + "free": GIB}, "disk: less than 2.0 GiB are free for runs (1.0 GiB)"),
    ({"jax.error": "E: no"}, "JAX cannot be used: E: no"),
    ({"jax.error": "no", GIVEN + "JAX_PLATFORMS": "cuda"}, "JAX finds nothing for JAX_PLATFORMS="),
    ({"jax.error": "no", "jax.imported": False, GIVEN + "JAX_PLATFORMS": "cuda"}, "JAX cannot be"),
    ({"jax.library": "E: no"}, "jaxgan cannot be imported: E: no"),
    ({PLUGIN: "1"}, "GPU: jax-cuda12-plugin is installed but JAX sees no GPU (there seems"),
    ({PLUGIN: "1", "jax.complaint": "no libs"}, "GPU: jax-cuda12-plugin is installed but JAX sees"),
    ({GPUS: 1}, "GPU: there is one, but no CUDA plugin of JAX"),
    ({GPUS: 1, PLUGIN: "1", GIVEN + "CUDA_VISIBLE_DEVICES": "empty"}, "GPU: CUDA_VISIBLE_DEVICES"),
    ({DEVICES: [GPU]}, "GPU: triton is missing"),
    ({"jax.kernels.error": "JAXGAN_KERNELS=x"}, "kernels: JAXGAN_KERNELS=x"),
    ({"software.mismatches": WRONG}, "versions: optax is 0.1, asked for is optax>=0.2.5"),
    ({"software.mismatches": MISSING}, "versions: flax is not installed, asked for is flax>=0.12"),
    ({"software.not_installed": True}, "versions: jaxgan is run without being installed"),
    ({"caches.compiled programs.writable": False}, "compiled programs: ~/x cannot be written"),
    ({RUNS + "writable": "Read-only"}, "runs: ~/x cannot be written: Read-only"),
    ({RUNS + "lock": "not implemented"}, "runs: ~/x has no locks (not implemented)"),
    ({RUNS + "rename": "no"}, "runs: ~/x cannot rename (no)"),
    ({RUNS + "replace": "no"}, "runs: ~/x cannot replace (no)"),
    ({"data_sets": BAD}, "data set d: it is prepared as tfrecord"),
    ({"data_sets": [{"name": "d", "error": "bad"}]}, "data set d: bad"),
    ({"terminal.encoding": "ANSI_X3.4-1968"}, "terminal: it is ANSI_X3.4-1968 alone"),
    ({"environment.proxies": ["http_proxy"]}, "network: a proxy is set and no_proxy is not"),
    ({GIVEN + "JAX_DISABLE_JIT": "1"}, "JAX_DISABLE_JIT=1: it runs a step one operation"),
    ({GIVEN + "JAX_ENABLE_X64": "true"}, "JAX_ENABLE_X64=true: "),
    ({GIVEN + "JAX_DEBUG_NANS": "1"}, "JAX_DEBUG_NANS=1: "),
    ({GIVEN + "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}, "XLA_FLAGS: devices are"),
    ({"limits.NOFILE": 64}, "limits: 64 files may be open"),
    ({"limits.FSIZE": 10**6}, "limits: files end at 976.6 KiB"),
    ({"limits.AS": GIB}, "limits: 1.0 GiB of addresses"),
    ({"machine.year": 1970}, "clock: it says 1970"),
    ({"machine.behind": 1e6}, "clock: it says 2030"),
    ({RUNS + "clock": -3600.0}, "clock: the file system of runs is -3600 seconds off"),
]
ON_GPU = {DEVICES: [GPU], TRITON: "3", PLUGIN: "1", GPUS: 1}
DUE += [
    ({**ON_GPU, GIVEN + f"XLA_PYTHON_CLIENT_{name}": value}, f"XLA_PYTHON_CLIENT_{name}={value}: ")
    for name, value in (("PREALLOCATE", "false"), ("ALLOCATOR", "platform"), ("MEM_FRACTION", ".5"))
]
NOT_DUE = [
    {},
    ON_GPU,
    {PLUGIN: "1", GIVEN + "JAX_PLATFORMS": "cpu"},
    {"environment.proxies": ["http_proxy", "no_proxy"]},
    {GIVEN + "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},  # there is no GPU
    {GIVEN + "JAX_DISABLE_JIT": "0"},
    {"terminal.encoding": "utf8"},
    {"machine.quota": 4.0},
    {"limits.AS": 100 * GIB},
    {"memory.free": None, "terminal.encoding": None, "limits.NOFILE": None},
]


def changed(changes):
    found = copy.deepcopy(SOUND)
    for name, value in changes.items():
        *parents, last = name.split(".")
        place = found
        for parent in parents:
            place = place[parent]
        place[last] = value
    return found


@pytest.mark.parametrize(("changes", "line"), DUE, ids=[line[:50] for _, line in DUE])
def test_what_deserves_advice_gets_one_line_and_the_page_shows_it(changes, line):
    found = changed(changes)
    (said,) = advise(found)
    assert said.startswith(line) and "\n" not in said
    shown = " ".join(page(found, [said]).split())
    assert shown.endswith(f"advice - {' '.join(said.split())}")


@pytest.mark.parametrize("changes", NOT_DUE, ids=str)
def test_what_deserves_none_gets_none(changes):
    assert advise(changed(changes)) == []
    assert page(changed(changes), []).endswith("advice\n  - nothing to advise")


@pytest.mark.parametrize("section", SOUND)
@pytest.mark.parametrize("broken", [{"error": "OSError: gone"}, None, [3], {}])
def test_a_section_that_is_broken_costs_a_line_and_no_advice(section, broken):
    found = {**SOUND, section: broken}
    lines = page(found, advise(found)).splitlines()
    title = section.replace("_", " ")
    after = lines[lines.index(title) + 1]
    if broken == {"error": "OSError: gone"}:
        assert "OSError: gone" in after
    assert set(advise(found)) <= {
        "JAX cannot be used: OSError: gone; mend that (the variables and limits above may be the "
        "cause), or install jaxgan in a new environment"
    }


def test_a_probe_that_fails_is_a_line_without_names(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere/else/alice")
    monkeypatch.setenv("USER", "alice")

    def failing():
        raise RuntimeError("no /somewhere/else/alice/x for alice\nat 10.1.2.3 and http://a.b/c")

    found = gathering.gather({"machine": failing, "limits": lambda: {"NOFILE": 1}})
    error = "RuntimeError: no ~/x for <user> at <address> and <address>"
    assert found == {"machine": {"error": error}, "limits": {"NOFILE": 1}}


def everything(monkeypatch, folder):
    """All probes in a home of its own with names of its own."""
    home = folder / "homes" / "alicia"
    home.mkdir(parents=True)
    for name in ("USER", "LOGNAME", "USERNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "alicia")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HOSTNAME", "wonderland.example.org")
    monkeypatch.setattr(socket, "gethostname", lambda: "wonderland.example.org")
    monkeypatch.setattr(getpass, "getuser", lambda: "alicia")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "a" / "b" / "c" / "cache of alicia"))
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"] + f" --xla_dump_to={home}/dumps")
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "10.20.30.40:1234")
    monkeypatch.setenv("TFDS_DATA_DIR", "/mnt/wonderland/alicia/sets")
    monkeypatch.setenv("JAXGAN_TOKEN", "squeamish")
    monkeypatch.setenv("https_proxy", "http://alicia:squeamish@proxy.example.org:3128")
    monkeypatch.chdir(home)
    return home


def test_the_page_names_no_user_host_home_address_or_secret(tmp_path, monkeypatch, capsys):
    home = everything(monkeypatch, tmp_path)
    monkeypatch.setattr(devices, "asked", lambda: {"error": f"bad {home}/lib of alicia"})
    for words in (["doctor"], ["doctor", "--json"]):
        assert main(words) == 0
        text = capsys.readouterr().out
        for name in ("alicia", "wonderland", str(home), str(tmp_path), "squeamish", "10.20.30.40"):
            assert name not in text, name
        assert "proxy.example" not in text and "JAXGAN_TOKEN" in text and text.isascii()
        assert str(pathlib.Path.home()) not in text


def test_the_page_is_one_page_and_changes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(devices, "asked", lambda: {"devices": [CPU], "driver": {"gpus": 0}})
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert 30 <= len(lines) <= 90 and max(map(len, lines)) <= 100
    assert [line.replace(" ", "_") for line in lines if not line.startswith(" ")] == [
        *gathering.PROBES,
        "advice",
    ]
    assert holding(tmp_path) == {}


def test_json_says_the_same(capsys, monkeypatch):
    monkeypatch.setattr(devices, "asked", lambda: {"error": "E: no"})
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {*gathering.PROBES, "advice"}
    assert found["advice"] == advise(found)


def test_jax_is_asked_in_a_process_of_its_own():
    found = devices.asked(seconds=120)
    assert [device["platform"] for device in found["devices"]] == ["cpu"] * 4
    assert found["kernels"]["auto"] == "xla" and found["kernels"]["xla"] is True
    assert "needs a CUDA GPU" in found["kernels"]["triton"]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("raise ImportError('libjax is gone')", "ImportError: libjax is gone (exit status 1)"),
        ("import os; os.abort()", "it said nothing (exit status -6)"),
        (
            "import sys; sys.exit('F1125 23:34:10.486376    8159 a.cc:2] Unknown flag in X: --y')",
            "Unknown flag in X: --y (exit status 1)",
        ),
        ("print('{')", "it said nothing (exit status 0)"),
        ("import time; time.sleep(600)", "no answer within 0.5 seconds"),
    ],
)
def test_a_jax_that_fails_aborts_or_hangs_is_a_line(code, error):
    seconds = 0.5 if "sleep" in code else 60
    assert devices.asked(seconds, code) == {"error": error}


def test_an_error_without_a_word_is_told_by_what_jax_logged():
    lines = "ERROR:jax:E\\nTraceback:\\nRuntimeError: Unable to load CUDA"
    code = f"import sys; sys.stderr.write('{lines}'); print('{{\"error\": \"AssertionError\"}}')"
    found = devices.asked(60, code)
    assert found["error"] == found["complaint"] == "RuntimeError: Unable to load CUDA"


def test_a_platform_that_is_not_there_is_a_line_with_the_reason(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "moon")
    found = devices.asked(120)
    assert "moon" in found["error"] and "\n" not in found["error"]


def test_it_works_where_jax_cannot_be_imported(tmp_path):
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("raise ImportError('libjax is gone')")
    _, environment = command()
    environment["PYTHONPATH"] = f"{tmp_path}:{ROOT}"
    words = [sys.executable, "-m", "jaxgan.doctor"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == ""
    assert "- JAX cannot be used: ImportError: libjax is gone" in done.stdout


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/home/bob", "~"),
        ("/home/bob/a/b/c", "~/a/b/c"),
        ("/home/bob/a/b/c/d", "~/../c/d"),
        ("/home/bobby/a", "../<user>/a"),
        ("/home/eve", "/home/<user>"),
        ("/mnt/x/y/z", "../y/z"),
        ("/tmp", "/tmp"),
        ("/scratch/bob", "/scratch/<user>"),
        ("/data/tower/x", "../<host>/x"),
        ("/", "/"),
    ],
)
def test_paths_are_shown_from_the_home_folder_or_by_their_last_parts(path, expected):
    names = private.Names(("/home/bob",), ("bob",), ("tower",))
    assert private.short_path(path, names) == expected


def test_versions_and_words_are_no_addresses_and_names_within_words_stay():
    names = private.Names(("/home/bob",), ("bob",), ("tower",))
    assert private.scrubbed({"bob": ["12.9.86.1", 3, "bobbin"]}, names) == {
        "<user>": ["12.9.86.1", 3, "bobbin"]
    }
    assert private.told("Bob1 at bob@tower.edu, GPU-8932f937-d72c", names) == (
        "<user> at <address>, <address>"
    )
    told = private.told("at 12:30:45 bob's tower_1 fe80::1:2:3", names)
    assert told == "at 12:30:45 <user>'s <host>_1 <address>"
    assert private.variable("JAX_X", "", names) == "empty"
    assert len(private.told("x" * 1000, names)) <= 160


def test_sizes_are_summed_without_following_links_and_not_for_ever(tmp_path):
    cache, other = tmp_path / "cache", tmp_path / "other"
    for folder in (cache / "a", other):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"123")
    (cache / "link").symlink_to(other)
    (cache / "file-link").symlink_to(other / "file")
    (cache / "loop").symlink_to(cache)
    found = places.cache(cache)
    assert (found["files"], found["bytes"], found["complete"]) == (1, 3, True)
    for number in range(20):
        (cache / "a" / str(number)).write_text("")
    found = places.cache(cache, most=10)
    assert found["files"] <= 10 and not found["complete"]
    assert places.cache(tmp_path / "none")["there"] is False


def test_data_sets_are_listed_and_a_damaged_description_is_a_line(tmp_path):
    split = {"shardLengths": ["3", "4"], "numBytes": "70"}
    told = {"name": "own", "version": "1.2.0", "fileFormat": "riegeli", "splits": [split, split]}
    for name, text in (("own", json.dumps(told)), ("bad", "{"), ("list", "[]")):
        folder = tmp_path / name / "1.2.0"
        folder.mkdir(parents=True)
        (folder / "dataset_info.json").write_text(text)
    bad, bad_too, own = places.data_sets(tmp_path)
    assert "error" in bad and "error" in bad_too and bad["name"] == "bad"
    assert own == {
        **{"name": "own", "version": "1.2.0", "format": "riegeli"},
        **{"examples": 14, "bytes": 140},
    }


def test_abilities_are_tried_and_nothing_stays(tmp_path, monkeypatch):
    (tmp_path / "mine").write_text("mine")
    before = holding(tmp_path)
    found = places.abilities(tmp_path / "not" / "there")
    assert {name: found[name] for name in ABLE} == ABLE and holding(tmp_path) == before
    assert abs(found["clock"]) < 60

    def without(*arguments, **options):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(places.fcntl, "flock", without)
    monkeypatch.setattr(os, "link", without)
    found = places.abilities(tmp_path)
    assert found["lock"] == found["link"] == "Function not implemented" and found["rename"] is True
    assert holding(tmp_path) == before
    monkeypatch.setattr(places.tempfile, "mkdtemp", without)
    assert places.abilities(tmp_path)["writable"] == "Function not implemented"


def test_locks_that_two_may_hold_are_none(tmp_path, monkeypatch):
    monkeypatch.setattr(places.fcntl, "flock", lambda *arguments: None)
    assert places.abilities(tmp_path)["lock"] == "two may hold the same lock"


def test_versions_are_compared_with_what_is_asked_for(monkeypatch):
    has = {"a": "1.10.2", "b": "2.0.0.dev1", "c": None, "d": None, "e": "3.9", "f": "0.1"}
    monkeypatch.setattr(versions, "version", has.get)
    lines = ["a>=1.9,<2", "b[x]<2", "c>=1", "d>=1; extra == 'cuda12'", "e<3.9; extra == 'cuda12'"]
    wrong = versions.mismatches([*lines, "f>=1; extra == 'bench'"])
    assert [one["package"] for one in wrong] == ["b", "c", "e"]
    assert wrong[1] == {"package": "c", "version": None, "wanted": ">=1"}


def test_a_quota_of_cores_is_the_least_of_all_groups(tmp_path):
    assert gathering.quota(tmp_path) is None
    for name, text in (("a", "150000 100000"), ("a/b", "max 100000")):
        folder = tmp_path / "sys" / "fs" / "cgroup" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(text)
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/a/b\n")
    assert gathering.quota(tmp_path) == 1.5


def test_closed_streams_and_limits_that_are_not_known_cost_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert "stdin" not in gathering.terminal()["terminals"]
    assert gathering.limits()["NOFILE"] > 0


def test_a_cache_where_a_file_is_in_the_way_cannot_be_written(tmp_path):
    """And nothing is tried in the folder above it, where no run would write."""
    (tmp_path / "file").write_text("")
    before = set(tmp_path.iterdir())
    where = tmp_path / "file" / "jaxgan"
    assert places.abilities(where)["writable"] == "Not a directory"
    assert places.cache(where)["writable"] is False
    assert set(tmp_path.iterdir()) == before


def test_a_probe_that_is_never_answered_is_a_line():
    """As of a file system whose server is gone."""
    ended = threading.Event()
    try:
        found = gathering.answered(lambda: ended.wait(60), seconds=0.01)
    finally:
        ended.set()
    assert found == {"error": "no answer within 0.01 seconds"}
