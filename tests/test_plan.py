"""What a run would take: counts and bytes are those of the run, and nothing is prepared for it."""

import jax
import numpy as np
import pytest
from runs import RUN, centre_game, points, run, small_flags

from jaxgan import memory
from jaxgan.cli import main
from jaxgan.config import RunOptions, configured
from jaxgan.data import DataOptions, as_source, make_feed, needs_preparing, open_source
from jaxgan.errors import UserError
from jaxgan.game import init
from jaxgan.options import replace
from jaxgan.run import parallel
from jaxgan.run import plan as plans

SMALL = {**RUN, "data.image_size": 8, "model.generator_width": 8, "model.discriminator_width": 4}
WIDTHS = {"model.generator_width": 64, "model.discriminator_width": 16}
DATA = [DataOptions(name=name, features="point") for name in ("ring", "grid")]
DATA += [DataOptions(), DataOptions(name="shapes", image_size=8)]


def planned(name="dcgan", **changes):
    """(the plan of a small run, its game, its source)."""
    made = configured(name, {**SMALL, **{k.replace("__", "."): v for k, v in changes.items()}})
    games = []

    def make(example):
        games.append(made.recipe.make(example, made.options))
        return games[-1]

    return plans.plan(make, made.run.data, made.run), games[-1], open_source(made.run.data)


def test_the_state_is_as_large_as_a_real_one_and_the_players_are_its_parts():
    plan, game, source = planned()
    batch = {name: leaf[:8] for name, leaf in source.read(np.arange(8)).items()}
    state = init(game, jax.random.key(0), batch)
    assert plan.state == sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    for name, of in plan.players.items():
        player = state.players[name]
        parts = player.params, player.opt_state, player.ema, player.model_state
        assert of[1:] == tuple(sum(x.nbytes for x in jax.tree.leaves(part)) for part in parts)
    own = state.step.nbytes + state.key.nbytes
    assert plan.state == own + sum(sum(of[1:]) for of in plan.players.values())


def test_parameters_are_counted_as_on_paper():
    plan = plans.plan(centre_game(), points(), replace(RunOptions(), RUN))
    (player,) = plan.players.values()
    # A centre in the plane; Adam keeps two moments of it and a count.
    assert player == (2, 8, 8 + 8 + 4, 8, 4) and plan.batch == 8 * 2 * 4
    assert plan.data == 100 * 2 * 4 and plan.resident and plan.examples == 100


def test_the_parameters_of_the_listing_are_those_that_pytorch_counts():
    plan, *_ = planned("listing", **{"data.name": "digits", "data.image_size": 28, **WIDTHS})
    # Linear(100, 7*7*64); ConvTranspose2d(64, 32, 4), (32, 1, 4); Conv2d(1, 16, 4), ..; no biases.
    generator = 101 * 7 * 7 * 64 + 64 * 32 * 16 + 32 * 16
    assert plan.players["generator"].parameters == generator
    assert plan.players["discriminator"].parameters == 16 * 16 + 16 * 32 * 16 + 32 * 16


def test_what_lives_on_the_device_is_what_a_feed_loads():
    source = as_source(points())
    for limit, kept in ((2048, 800), (0, 0)):
        changes = {"data.resident_limit_mb": limit, "data.read_threads": 0}
        run_ = replace(RunOptions(), {**RUN, **changes})
        plan = plans.plan(centre_game(), source, run_)
        feed = make_feed(source, 8, 0, resident_limit_mb=limit, read_threads=0)
        assert sum(x.nbytes for x in jax.tree.leaves(feed.resident)) == kept
        assert plan.resident is bool(kept)
        assert plan.needed == plan.state + plan.batch + plan.scratch + kept


def test_devices_that_are_cores_share_one_memory_in_which_the_data_lie_once():
    resident = make_feed(as_source(points()), 8, 0).resident
    on_devices = parallel.replicate(resident, jax.devices()[:4])["point"].addressable_shards
    places = {shard.data.unsafe_buffer_pointer() for shard in on_devices}
    assert places == {resident["point"].ctypes.data}
    one, four = (
        plans.plan(centre_game(), points(), replace(RunOptions(), {**RUN, "devices": count}))
        for count in (1, 4)
    )
    assert (one.devices, four.devices, four.platform) == (1, 4, "cpu")
    assert four.state == one.state and four.batch == one.batch
    assert four.needed == 4 * (four.state + four.scratch) + four.batch + four.data


def test_scratch_is_what_xla_says_and_grows_with_the_batch():
    small, large = (planned(batch_size=count)[0] for count in (8, 64))
    assert 0 < small.scratch < large.scratch


@pytest.mark.parametrize(
    ("free", "scratch", "resident", "fits", "words"),
    [
        (10**9, 10**6, True, True, ": it fits"),
        (10**6, 10**6, False, False, ": it does not fit; use a smaller --batch-size or network"),
        (10**6, 10**6, True, False, "or let the data stream with --data.resident-limit-mb 0"),
        (10**9, None, True, None, "; without the scratch of a step"),
        (None, 10**6, True, None, "what is free of each gpu device is not known"),
    ],
)
def test_it_is_said_whether_it_fits(free, scratch, resident, fits, words):
    plan = plans.plan(centre_game(), points(), replace(RunOptions(), RUN))
    plan = plan._replace(scratch=scratch, free=free, needed=2 * 10**6, resident=resident)
    plan = plan._replace(platform="gpu")
    *_, last = plans.lines(plan)
    assert plan.fits is fits and last.endswith(words) and last.startswith("memory: about 1.9 MiB")


def test_what_train_refuses_is_refused():
    for changes, text in (
        ({"batch_size": 101}, "batch_size=101 exceeds the 100 examples"),
        ({"devices": 5}, "devices=5 but this machine has 4"),
        ({"kernels": "triton"}, "kernels=triton needs a CUDA GPU"),
    ):
        with pytest.raises(UserError, match=text):
            plans.plan(centre_game(), points(), replace(RunOptions(), {**RUN, **changes}))
    with pytest.raises(UserError, match=r"is no jaxgan\.Game"):
        plans.plan(3, points())  # pyright: ignore


@pytest.mark.parametrize("options", DATA, ids=lambda options: options.name)
def test_data_at_hand_need_no_preparing(options, tmp_path):
    assert not needs_preparing(options)
    assert not needs_preparing(DataOptions(folder=str(tmp_path)))


def test_asking_whether_data_need_preparing_writes_nothing(tmp_path):
    root = tmp_path / "data"
    assert needs_preparing(DataOptions(name="fashion_mnist", dir=str(root)))
    assert not root.exists()
    with pytest.raises(UserError, match="unknown data set 'minst'; did you mean mnist"):
        needs_preparing(DataOptions(name="minst", dir=str(root)))
    assert not root.exists()


def test_a_dry_run_ends_with_parameters_and_memory_and_writes_nothing(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *small_flags(), "--dry-run"]) == 0
    options, _, told = capsys.readouterr().out.partition("\n\n")
    assert "steps = 20\n" in options and "recipe = digits\n" in options
    names = ["discriminator", "generator", "state", "batch", "data", "scratch of a step", "memory"]
    assert [line.partition(":")[0] for line in told.splitlines()] == names
    assert "\nbatch: 8 examples, 544 bytes\n" in told and told.endswith(": it fits\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--data.name", "fashion_mnist"], "once fashion_mnist is prepared, which the first run"),
        (["--coordinator-address", "a:1", "--num-processes", "2", "--process-id", "0"], "of one"),
    ],
)
def test_what_a_dry_run_cannot_tell_is_one_line(words, line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *small_flags(), *words, "--dry-run"]) == 0
    told = capsys.readouterr().out.partition("\n\n")[2]
    assert told.count("\n") == 1 and told.startswith(f"parameters and memory are told {line}")


def test_a_run_finds_the_program_that_the_dry_run_compiled(tmp_path):
    cache = tmp_path / "compiled"
    words = ["--workdir", str(tmp_path / "run"), *small_flags(**{"log.samples": 3})]
    found = []
    for more in (["--dry-run"], []):
        done = run("train", *words, *more, JAX_COMPILATION_CACHE_DIR=str(cache))
        assert done.returncode == 0, done.stderr
        found.append({path.name for path in cache.glob("jit_run-*-cache")})
    assert len(found[0]) == 1 and found[0] == found[1]


MEMINFO = "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 800 kB\n"


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, (1000 * 1024, 800 * 1024, None)),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": "1000",
                "sys/fs/cgroup/a/memory.current": "700",
                "sys/fs/cgroup/a/memory.stat": "anon 1\ninactive_file 300\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
            },
            (1000 * 1024, 600, 1000),
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,memory:/elsewhere\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9000",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000",
            },
            (1000 * 1024, 8000, 9000),
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            },
            (1000 * 1024, 800 * 1024, None),
        ),
    ],
    ids=["none", "version 2", "version 1", "version 1 without a limit"],
)
def test_free_memory_is_what_the_tightest_control_group_leaves(files, expected, tmp_path):
    write(tmp_path, {"proc/meminfo": MEMINFO, **files})
    assert memory.of_machine(tmp_path) == expected


def test_bytes_are_shown_in_their_unit():
    told = [memory.shown(n) for n in (0, 1023, 1024, 3 * 2**20, 5 * 2**40)]
    assert told == ["0 bytes", "1,023 bytes", "1.0 KiB", "3.0 MiB", "5,120.0 GiB"]
