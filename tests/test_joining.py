"""How the processes of a run find each other, and what is said where they do not."""

import contextlib
import signal
import socket
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest
from runs import SMALL, command, free_port, place_flags, run, said, several, small_flags

from jaxgan import config
from jaxgan.errors import RunError, UserError
from jaxgan.run import addresses, handshake, joining

STOPPED = "jaxgan: stopped by SIGINT before there was anything to save\n"
SECONDS = 100  # after which a hang is a failure; nothing here takes ten


@contextlib.contextmanager
def desk_of(count: int, about: dict | None = None, host: str = "localhost") -> Iterator:
    """Process 0, and its address."""
    address = f"{host}:{free_port()}"
    desk = handshake.Desk(address, count, about or {})
    try:
        yield desk, address
    finally:
        desk.close()


def call(address: str, count: int, number: int, about: dict | None = None) -> handshake.Call:
    return handshake.call(address, count, number, about or {}, time.monotonic() + SECONDS)


def test_a_coordinator_that_does_not_answer_is_one_line(tmp_path):
    port = free_port()
    words = [*place_flags(port, 1), "--initialization-timeout", "1"]
    done = run("train", "--workdir", str(tmp_path / "run"), *small_flags(), *words)
    waiting = f"waiting for 2 processes at localhost:{port}, at most 1 s\n"
    assert (done.returncode, done.stdout) == (2, waiting)
    assert done.stderr == (
        f"jaxgan: --coordinator-address localhost:{port} cannot be reached (Connection refused); "
        "start process 0 there, or mend it\n"
    )
    assert not list(tmp_path.iterdir())


def test_ctrl_c_ends_a_process_that_waits_for_the_others(tmp_path):
    words = [
        "train",
        "--workdir",
        str(tmp_path / "run"),
        *small_flags(),
        *place_flags(free_port(), 0),
    ]
    with several(command(*words)) as (process,):
        assert process.stdout is not None
        assert process.stdout.readline().startswith("waiting for 2 processes at localhost:")
        process.send_signal(signal.SIGINT)
        # It would wait for the others for five minutes.
        _, err = process.communicate(timeout=SECONDS)
        assert (process.returncode, err) == (130, STOPPED)
    assert not list(tmp_path.iterdir())


def test_processes_that_do_not_come_are_one_line(tmp_path):
    port = free_port()
    words = [*place_flags(port, 0, 3), "--initialization-timeout", "1"]
    done = run("train", "--workdir", str(tmp_path / "run"), *small_flags(), *words)
    waiting = f"waiting for 3 processes at localhost:{port}, at most 1 s\n"
    assert (done.returncode, done.stdout) == (2, waiting)
    assert done.stderr.startswith(
        f"jaxgan: not all of 3 processes came to localhost:{port} within 1 s "
        "(--initialization-timeout); missing: 1, 2; start the"
    )
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            ("a:1", None, None, False),
            "--coordinator-address without --num-processes, --process-id;",
        ),
        (
            (None, 2, 0, False),
            "--num-processes, --process-id without --coordinator-address; several",
        ),
        (("a:1", 2, 2, False), "--process-id 2 but --num-processes 2; the processes are numbered"),
        (
            ("a", 2, 0, False),
            "--coordinator-address 'a' is not HOST:PORT; use one such as localhost",
        ),
        (("::1:5", 2, 0, False), "--coordinator-address '::1:5' is not HOST:PORT"),
        (("a:0", 2, 0, False), "--coordinator-address 'a:0' is not HOST:PORT"),
        (
            ("a:1", 2, 0, True),
            "--distributed asks the cluster for what --coordinator-address, --num",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(given, text):
    with pytest.raises(UserError) as error:
        joining.place(*given)
    assert str(error.value).startswith(text)


def test_waiting_for_nobody_is_refused():
    with pytest.raises(
        UserError,
        match=r"^--initialization-timeout 5 but there are no other processes to wait for; give",
    ):
        joining.place(None, None, None, False, 5)
    assert joining.place(None, None, None, True, 5) == joining.Place(timeout=5)
    assert joining.place(None, None, None, False) is None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "machine"])
def test_processes_come_together_at_names_and_addresses_of_both_families(host, monkeypatch):
    """A host's name may mean another address on another machine."""
    resolve = socket.getaddrinfo

    def resolved(name, *args, **kwargs):
        return resolve("127.0.0.1" if name == "machine" else name, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    if host == "[::1]":
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6")
    with desk_of(3, host=host) as (desk, address):
        called = [call(address, 3, number) for number in (2, 1)]
        told = [one.all_came.result(SECONDS) for one in (desk, *called)]
        assert told[0] == told[1] == told[2]
        own = addresses.host_and_port(told[0].address)
        assert own and own[0] == host.strip("[]") and f"{host}:{own[1]}" != address
        where = f"[::]:{own[1]}" if host == "machine" else told[0].address
        assert told[0].bind_address == where


@pytest.mark.parametrize("shared", [True, False])
def test_an_address_at_which_any_program_listens_is_refused_to_process_0(shared):
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for host in ("localhost", "127.0.0.1"):
            with pytest.raises(UserError, match=f"port {port} is taken by another run or program"):
                handshake.Desk(f"{host}:{port}", 2, {})


def test_an_address_that_process_0_gave_up_is_free_again():
    with desk_of(2) as (desk, address):
        with pytest.raises(UserError, match="is taken by another run"):
            handshake.Desk(address, 2, {})
        desk.close()
        handshake.Desk(address, 2, {}).close()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            socket.gaierror(socket.EAI_NONAME, "Name not known"),
            "the host 'a' is not known here (Na",
        ),
        (PermissionError(13, "Permission denied"), "port 1 needs rights that this process lacks;"),
        (
            OSError(99, "Cannot assign"),
            "a:1 is no address of this machine (Cannot assign requested",
        ),
    ],
)
def test_an_address_that_cannot_be_listened_at_is_one_line(monkeypatch, error, text):
    def fail(*args, **kwargs):
        raise error

    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    which = "getaddrinfo" if isinstance(error, socket.gaierror) else "create_server"
    monkeypatch.setattr(socket, which, fail)
    with pytest.raises(UserError) as raised:
        handshake.Desk("a:1", 2, {})
    assert text in str(raised.value) and "--coordinator-address a:1" in str(raised.value)
    assert "\n" not in str(raised.value)
    if which == "getaddrinfo":
        with pytest.raises(UserError, match="the host 'a' is not known here"):
            call("a:1", 2, 1)


@pytest.mark.parametrize(
    ("count", "number", "about", "text"),
    [
        (4, 2, {"steps": 5}, "--num-processes 4 here but 3 in process 0 at localhost:"),
        (3, 1, {"steps": 5}, "--process-id 1 came to localhost:"),
        (3, 2, {"steps": 6}, "steps=6 here but 5 in process 0 at localhost:"),
    ],
)
def test_a_process_of_another_run_is_turned_away_and_the_run_comes_together(
    count, number, about, text
):
    with desk_of(3, {"steps": 5}) as (desk, address):
        first = call(address, 3, 1, {"steps": 5})
        with pytest.raises(UserError, match=text) as error:
            call(address, count, number, about)
        assert "give each run a port of its own" in str(error.value)
        assert desk.missing() == [2]
        call(address, 3, 2, {"steps": 5, "data.dir": "/elsewhere"})
        assert first.all_came.result(SECONDS) == desk.all_came.result(SECONDS)
        with pytest.raises(
            UserError, match=r"^the 3 processes at .* came together before this one"
        ):
            call(address, 3, 2, {"steps": 5})


def test_a_process_of_another_version_is_turned_away(monkeypatch):
    with desk_of(2) as (_, address):
        version = handshake.importlib.metadata.version
        monkeypatch.setattr(handshake.importlib.metadata, "version", lambda n: version(n) + ".x")
        with pytest.raises(UserError, match=r"^jaxgan \S+\.x here but \S+ in process 0 at"):
            call(address, 2, 1)


def test_strangers_delay_nobody(monkeypatch):
    monkeypatch.setattr(handshake, "_ANSWER_SECONDS", 10**4)  # who waited for one would hang
    with desk_of(2) as (desk, address), contextlib.ExitStack() as held:
        here = addresses.host_and_port(address)
        said = (b"", b"GET / HTTP/1.1\r\n\r\n", b'{"jaxgan": 1}\n', b"[" * 10**5 + b"\n", b"\xff\n")
        for text in (*said, b'{"process_id": [1]}\n', b"3\n"):
            stranger = held.enter_context(socket.create_connection(here))
            stranger.sendall(text)
        ours = call(address, 2, 1)
        assert ours.all_came.result(SECONDS) == desk.all_came.result(SECONDS)


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", None])
def test_a_server_of_another_program_is_one_line(monkeypatch, reply):
    """It answers, hangs up, or says nothing."""
    monkeypatch.setattr(handshake, "_ANSWER_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as held:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def answer() -> None:
            connection = held.enter_context(server.accept()[0])
            if reply is not None:
                connection.sendall(reply)
                connection.shutdown(socket.SHUT_WR)

        answered = joining._in_background(answer)
        with pytest.raises(UserError, match=f"{address} does not answer as process 0 does; give"):
            call(address, 2, 1)
        answered.result(SECONDS)


def test_a_process_that_left_before_all_came_may_come_again():
    with desk_of(3) as (desk, address):
        call(address, 3, 1).close()
        again = None
        while again is None:  # until process 0 has heard that it left
            with contextlib.suppress(UserError):
                again = call(address, 3, 1)
        call(address, 3, 2)
        assert again.all_came.result(SECONDS) == desk.all_came.result(SECONDS)


def test_a_process_lost_before_all_have_joined_is_told_to_all():
    with desk_of(4) as (desk, address):
        first, second, third = (call(address, 4, number) for number in (1, 2, 3))
        for one in (first, second, third):
            one.all_came.result(SECONDS)
        first.joined()
        second.close()
        for one in (desk, third):
            with pytest.raises(RunError, match=r"^process 2 was lost while the processes at"):
                one.lost.result(SECONDS)


def test_that_process_0_gives_up_is_told_to_those_that_wait():
    with desk_of(3) as (desk, address):
        waits = call(address, 3, 1)
        told = joining._in_background(lambda: desk.close("process 0: has no time"))
        with pytest.raises(UserError, match=r"^process 0: has no time$"):
            waits.all_came.result(SECONDS)
        waits.close()
        told.result(SECONDS)


@contextlib.contextmanager
def process_0_in_jax(*words: str) -> Iterator:
    """A process 0 of two whose C++ waits, for the other one has not gone on."""
    port = free_port()
    words = words or ("train", "--workdir", "/dev/null/none", *small_flags())
    begun = command(*words, *place_flags(port, 0)) if words[0] == "train" else None
    python = [sys.executable, "-c", words[0], f"localhost:{port}"], command()[1]
    with several(begun or python) as (process,):
        about = config.described(config.configured("digits", SMALL)) if begun else {}
        other = call(f"localhost:{port}", 2, 1, about)
        coordinator = other.all_came.result(SECONDS)
        addresses.reached(coordinator.address, time.monotonic() + SECONDS).close()
        yield process, other


def test_a_process_that_is_lost_while_jax_waits_for_it_is_one_line():
    with process_0_in_jax() as (process, other):
        other.close()
        _, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 2 and err.count("\n") == 1, err
        assert err.startswith("jaxgan: process 1 was lost while the processes at localhost:")


HANDLING = """
    import signal, sys
    from jaxgan.run import joining

    class Stopped(KeyboardInterrupt):
        pass

    def stop(number, frame):
        raise Stopped(signal.Signals(number).name)

    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"):
        signal.signal(getattr(signal, name), stop)
    try:
        with joining.joined(joining.place(sys.argv[1], 2, 0, False)):
            pass
    except Stopped as error:
        print("stopped by", error)
        sys.exit(3)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_handlers_of_signals_may_raise_while_jax_waits_and_the_process_ends_at_once(name):
    with process_0_in_jax(textwrap.dedent(HANDLING)) as (process, other):
        process.send_signal(getattr(signal, name))
        with pytest.raises(RunError, match=f"^process 0: Stopped: {name}$"):
            other.lost.result(SECONDS)
        other.close()
        out, err = said(process)
        assert (process.returncode, out) == (3, f"stopped by {name}\n")
        # Where the signal came while JAX's service began, its C++ may tell of its end at length.
        assert "Traceback" not in err


TOGETHER = """
    import sys
    from jaxgan.run import joining

    with joining.joined(joining.place(sys.argv[1], 2, int(sys.argv[2]), False, 60)):
        import jax
        from jaxgan.run import processes

        print(jax.process_count(), "processes", flush=True)
        sys.stdin.readline()
        print(processes.from_first_json("of process " + sys.argv[2]))
"""


def assert_end_together(started) -> None:
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in started:
        out, err = said(process)
        assert (out.splitlines()[-1], err, process.returncode) == ("of process 0", "", 0)


def test_whoever_comes_to_a_running_run_is_turned_away_and_does_not_disturb_it():
    """Another process 0, processes that come late, and strangers."""
    port = free_port()
    address = f"localhost:{port}"
    program = [sys.executable, "-c", textwrap.dedent(TOGETHER), address]
    with several(*[([*program, str(i)], command()[1]) for i in range(2)]) as started:
        for process in started:
            assert process.stdout is not None
            while (line := process.stdout.readline()) and line != "2 processes\n":
                pass
            assert line
        other = run("train", "--workdir", "/dev/null/none", *small_flags(), *place_flags(port, 0))
        assert (other.returncode, other.stdout) == (2, "")
        assert other.stderr == (
            f"jaxgan: --coordinator-address {address}: port {port} is taken by another run or "
            "program on this machine; give each run a port of its own\n"
        )
        for count, number in ((2, 1), (3, 2)):
            with pytest.raises(UserError, match=f"^the 2 processes at .*{address} came together"):
                call(address, count, number)
        with socket.create_connection(("localhost", port)) as stranger:
            stranger.sendall(b"PRI * HTTP/2.0\r\n\r\n")
            assert stranger.recv(1) == b""
        assert_end_together(started)


def test_proxies_are_not_asked_for_the_way_to_another_process():
    address, closed = f"localhost:{free_port()}", f"http://127.0.0.1:{free_port()}"
    proxies = {f"{kind}_proxy": closed for kind in ("http", "https", "grpc", "all")}
    proxies |= {name.upper(): value for name, value in proxies.items()}
    environment = {**command()[1], **proxies}
    program = [sys.executable, "-c", textwrap.dedent(TOGETHER), address]
    with several(*[([*program, str(i)], environment) for i in range(2)]) as started:
        assert_end_together(started)
