"""Several processes: real ones on localhost train, stop, fail and resume as one."""

import re
import shutil
import signal
import sys
import textwrap

import jax
import numpy as np
import pytest
from runs import (
    FASTER_TO_COMPILE,
    RECIPE,
    RUN,
    SMALL,
    command,
    flags,
    free_port,
    place_flags,
    said,
    several,
    small_flags,
)

import jaxgan
from jaxgan import config
from jaxgan.run import checkpoint, processes, train
from jaxgan.run.records import read_metrics


def two(words: list[str], devices: int = 1) -> list[tuple[list[str], dict[str, str]]]:
    """Two processes of one `jaxgan train`."""
    port = free_port()
    split = f"--xla_force_host_platform_device_count={devices} {FASTER_TO_COMPILE}"
    return [command("train", *words, *place_flags(port, i), XLA_FLAGS=split) for i in range(2)]


def distance(first, second):
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second))
    return np.sqrt(sum(float(((x - y) ** 2).sum()) for x, y in pairs))


def assert_same_run(ours, theirs, start) -> None:
    assert int(ours.step) == int(theirs.step)
    np.testing.assert_array_equal(jax.random.key_data(ours.key), jax.random.key_data(theirs.key))
    for player in ("generator", "discriminator"):
        a, b, first = (state.players[player].params for state in (ours, theirs, start))
        # Means of means sum in another order, and Adam magnifies the rounding of small gradients.
        # Other data would be off by all of it.
        assert distance(a, b) < 0.01 * distance(b, first)


def assert_same_metrics(ours, theirs) -> None:
    assert ours and [record["step"] for record in ours] == [record["step"] for record in theirs]
    for a, b in zip(ours, theirs):
        for name in ("loss_discriminator", "loss_generator", "score_real", "score_fake"):
            # The losses of two batches of one data set differ by more than 1e-5 of theirs in the
            # first steps; rounding by 1e-7.
            np.testing.assert_allclose(a[name], b[name], 2e-6, err_msg=f"{name} of {a['step']}")


def test_two_processes_train_as_one_from_its_checkpoint_and_a_signal_to_either_stops_both(tmp_path):
    """They stream, of a batch each its own half, on two devices each; one process reads their
    checkpoint."""
    changes = {
        "log.every": 1,
        "objective.r1_every": 2,
        "data.resident_limit_mb": 0,
        "log.checkpoint_every": 10**6,
    }
    recipe, options, ours = config.configured("digits", {**SMALL, **changes})
    about = config.described(config.Config(recipe, options, ours))

    def alone(workdir, steps):
        def make(example):
            return recipe.make(example, options)

        return train.train(make, ours.data, workdir, ours, about=about, steps=steps)

    start = alone(tmp_path / "one", 4)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    words = ["--workdir", str(tmp_path / "two"), *small_flags(**changes)]
    words += ["--devices", "4", "--steps", str(10**6)]
    with several(*two(words, devices=2)) as (first, second):
        assert first.stdout is not None
        shown = 0
        while shown < 6 and (line := first.stdout.readline()):
            shown += line.startswith("[1/")
        second.send_signal(signal.SIGTERM)
        out, err = said(first)
        assert (first.returncode, err) == (0, "")
        # The first alone speaks.
        assert said(second) == ("", "") and second.returncode == 0
    text = r"stopped by SIGTERM at step (\d+) of 1000000, saved; the same command resumes"
    stopped = re.search(text, out)
    assert stopped, out
    step = int(stopped[1])
    assert step >= 10 and checkpoint.steps_in(tmp_path / "two" / "checkpoints") == [4, step]
    one = alone(tmp_path / "one", step)
    assert_same_run(jaxgan.restore(tmp_path / "two").state, one, start)
    theirs = read_metrics(tmp_path / "two" / "metrics.jsonl")
    assert_same_metrics(theirs[:10], read_metrics(tmp_path / "one" / "metrics.jsonl")[:10])


@pytest.mark.parametrize("event", [15_500, 17_500])
def test_a_signal_to_one_process_ends_both_as_the_documentation_says(tmp_path, event):
    """Before the first step and after it; the events of a process are some twenty thousand."""
    (tmp_path / "mine.py").write_text(RECIPE)
    workdir = tmp_path / "run"
    words = [f"{tmp_path}/mine.py:centre", "--workdir", str(workdir)]
    first, second = two([*words, *flags({**RUN, "devices": 2})])
    second[1]["JAXGAN_TESTS_FAULT"] = f"signal_at SIGTERM {event}"
    with several(first, second) as started:
        found = [(process, *said(process)) for process in started]
    early = "jaxgan: stopped by SIGTERM before there was anything to save\n"
    for process, _, err in found:
        assert (process.returncode, err) in ((0, ""), (143, early))
    assert found[0][0].returncode == found[1][0].returncode
    assert bool(checkpoint.steps_in(workdir / "checkpoints")) == (found[0][0].returncode == 0)


AGREEING = """
    import sys
    import numpy as np, jax, jax.numpy as jnp
    from jaxgan.run import joining, processes
    from jaxgan.errors import UserError, RunError
    from jaxgan.run.signals import Stopped

    def told(work):
        try:
            work()
        except (Exception, KeyboardInterrupt) as error:
            print(f"{type(error).__name__}: {error}")

    def alone(number, error):
        with processes.together():
            if jax.process_index() == number:
                raise error

    i = int(sys.argv[2])
    here = joining.place(sys.argv[1], 2, i, False, 60)
    with joining.joined(here):
        told(lambda: processes.check_same({"batch_size": 8 + i, "data.dir": str(i)}))
        told(lambda: alone(0, OSError(28, "No space left")))
        told(lambda: alone(1, UserError("steps=0 is too small")))
        told(lambda: alone(0, KeyboardInterrupt()))
        told(lambda: alone(1, Stopped("SIGTERM")))
        stops = []
        with processes.together(["SIGTERM"] if i else [], stops):
            pass
        a = np.array([-0.0, np.nan, 1e-42, 3.0], np.float32) * (1 - i)
        arrays = {"a": a, "b": jnp.arange(3) + i, "key": jax.random.key(5 + i)}
        received = processes.from_first(arrays)
        bits, key = np.asarray(received["a"]).tobytes().hex(), received["key"]
        print(stops, bits, received["b"], jax.random.key_data(key))
        print(repr(processes.fault_of_any("no room" if i else "")), processes.fault_of_any(""))
        print(processes.from_first_json({"next_index": 10} if i == 0 else None))
"""


def test_what_one_process_meets_all_know_and_the_first_ones_state_arrives_bit_for_bit():
    address = f"localhost:{free_port()}"
    environment = command()[1]
    program = textwrap.dedent(AGREEING)
    with several(
        *[([sys.executable, "-c", program, address, str(i)], environment) for i in range(2)]
    ) as started:
        (first, first_err), (second, second_err) = (said(process) for process in started)
        assert (first_err, second_err) == ("", "")
    lines = [out.splitlines() for out in (first, second)]
    differs = (
        "batch_size=9 here but 8 in process 0; start all processes with the same config and data"
    )
    assert lines[0][:5] == [
        f"UserError: process 1: {differs}",
        "OSError: [Errno 28] No space left",
        "UserError: process 1: steps=0 is too small",
        "KeyboardInterrupt: ",
        "Stopped: SIGTERM",
    ]
    assert lines[1][:5] == [
        f"UserError: {differs}",
        "RunError: process 0: OSError: [Errno 28] No space left",
        "UserError: steps=0 is too small",
        "KeyboardInterrupt: process 0: KeyboardInterrupt",
        "Stopped: SIGTERM",
    ]
    bits = np.array([-0.0, np.nan, 1e-42, 3.0], np.float32).tobytes().hex()
    received = [f"['SIGTERM'] {bits} [0 1 2] [0 5]", "'no room' ", "{'next_index': 10}"]
    assert lines[0][5:] == lines[1][5:] == received


def test_with_one_process_nothing_is_changed():
    state, signals = {"a": np.ones(3)}, ["SIGINT"]
    assert processes.from_first(state) is state and processes.agreed_stops(signals) is signals
    with pytest.raises(KeyError, match="as it was"), processes.together():
        raise KeyError("as it was")
