"""Containers at a real terminal: size, keys, detaching, exit codes, and the terminal as it was before."""

from __future__ import annotations

import signal

import pytest

from terminals import DEADLINE, SIZE, Terminal, until

pytestmark = pytest.mark.root

DETACH = "\x10\x11"  # ctrl-p, ctrl-q
INTERRUPT = "\x03"  # ctrl-c
# Its end tells that the signal came, its first line that the trap is set.
TRAP = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done"


@pytest.fixture
def at_terminal(plugrun):
    """``plugrun ARGUMENTS`` on a terminal of its own."""
    return lambda *arguments, size=SIZE: Terminal(plugrun.argv(*arguments), size)


@pytest.fixture
def web(plugrun, busybox):
    """A container that runs and has no terminal."""
    plugrun("run", "-d", "--name", "web", busybox, "sleep", "1000").ok()
    return "web"


def state(plugrun, name):
    return plugrun("inspect", "-f", "{{.State.Status}}", name).ok().line


def resized(terminal, rows=44, columns=55):
    """Change the size of a terminal with a shell on it, and wait until the shell sees it."""
    terminal.resize(rows, columns)
    is_told(terminal, rows, columns)


def is_told(terminal, rows, columns):
    """Wait until a shell sees a size that was passed on, or is just about to be."""
    terminal.type(f"until [ \"$(stty size)\" = '{rows} {columns}' ]; do :; done; echo re''sized\r")
    terminal.expect("resized\r\n")


def left_as_it_was(terminal):
    assert terminal.settings() == terminal.before


# --- run ------------------------------------------------------------------------------------------------------------


def test_the_container_has_a_terminal_of_our_size(at_terminal, busybox):
    script = "tty; test -t 0 && test -t 1 && test -t 2 && echo all; stty size; echo $TERM; exit 7"
    with at_terminal("run", "--rm", "-it", busybox, "sh", "-c", script) as terminal:
        assert terminal.end() == 7
        assert terminal.screen.split() == ["/dev/pts/0", "all", *map(str, SIZE), "xterm"]
        left_as_it_was(terminal)


def test_a_shell_raw_and_resized(at_terminal, busybox):
    with at_terminal("run", "--rm", "-it", busybox, "sh") as terminal:
        terminal.type("echo re''ady\r")
        terminal.expect("ready\r\n")
        assert terminal.raw
        resized(terminal)
        terminal.expect("# ")  # between its prompts a shell would not take ctrl-d as a key
        terminal.type("\x04")  # which ends the shell, not our input
        assert terminal.end() == 0
        left_as_it_was(terminal)


def test_ctrl_c_is_the_containers(at_terminal, busybox):
    with at_terminal("run", "--rm", "-it", busybox, "sh", "-c", TRAP) as terminal:
        terminal.expect("ready\r\n")
        terminal.type(INTERRUPT)
        terminal.expect("caught\r\n")
        assert terminal.end() == 9
        left_as_it_was(terminal)


def test_killed_from_elsewhere(plugrun, at_terminal, busybox):
    with at_terminal("run", "-it", "--name", "web", busybox, "sh", "-c", "echo ready; sleep 1000") as terminal:
        terminal.expect("ready\r\n")
        plugrun("kill", "web").ok()
        assert terminal.end() == 137
        left_as_it_was(terminal)


@pytest.mark.parametrize(("command", "code"), [("nosuchcommand", 127), ("/etc", 126)])
def test_a_command_that_cannot_start(plugrun, at_terminal, busybox, command, code):
    with at_terminal("run", "--rm", "-it", busybox, command) as terminal:
        assert terminal.end() == code
        assert terminal.screen.startswith("plugrun: ")
        assert terminal.screen.count("\n") == 1
        left_as_it_was(terminal)
    assert plugrun("ps", "-aq").stdout == ""


@pytest.mark.parametrize("options", [("-it",), ("-t", "--sig-proxy=false"), ("-t",)])
def test_sigterm_ends_us_or_goes_to_the_container(plugrun, at_terminal, busybox, options):
    script = TRAP.replace("INT", "TERM")
    forwarded = options == ("-t",)  # with our keys, which are the way to send signals then, they stay with us
    with at_terminal("run", "--name", "web", *options, busybox, "sh", "-c", script) as terminal:
        terminal.expect("ready\r")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.end() == (9 if forwarded else 128 + signal.SIGTERM)
        left_as_it_was(terminal)
    assert state(plugrun, "web") == ("exited" if forwarded else "running")


def test_a_terminal_without_our_input(plugrun, at_terminal, busybox):
    """``-t`` alone: our keys stay with us, so ctrl-c is a signal to us, and we pass it on."""
    script = f"test -t 0 && test -t 1 && echo all; stty size; {TRAP}"
    with at_terminal("run", "--rm", "-t", busybox, "sh", "-c", script) as terminal:
        for line in ("all", f"{SIZE[0]} {SIZE[1]}", "ready"):  # whose line ends pass through both terminals
            terminal.expect(f"{line}\r\r\n")
        left_as_it_was(terminal)
        terminal.type("lost\r" + INTERRUPT)
        terminal.expect("caught\r\r\n")
        assert terminal.end() == 9
    # and without a terminal of ours, the container has one all the same
    assert plugrun("run", "--rm", "-t", busybox, "sh", "-c", "test -t 1 && echo yes").ok().stdout == "yes\r\n"


@pytest.mark.parametrize("command", ["run", "exec"])
def test_input_from_no_terminal_is_refused_before_anything_is_made(plugrun, web, busybox, command):
    target = {"run": busybox, "exec": web}[command]
    refused = plugrun(command, "-it", target, "true")
    assert refused.code == {"run": 125, "exec": 1}[command]
    assert "the input device is not a terminal" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert refused.stdout == ""
    assert len(plugrun("ps", "-aq").stdout.split()) == 1  # the one that was there


# --- Detach and attach ----------------------------------------------------------------------------------------------


def test_detach_and_come_back(plugrun, at_terminal, busybox):
    with at_terminal("run", "-it", "--name", "web", busybox, "sh") as terminal:
        terminal.type("echo re''ady; kept=yes\r")
        terminal.expect("ready\r\n")
        terminal.type(DETACH)
        assert terminal.end() == 0
        left_as_it_was(terminal)
    assert state(plugrun, "web") == "running"
    with at_terminal("attach", "web", size=(20, 70)) as terminal:
        terminal.type("echo kept: $kept\r")
        terminal.expect("kept: yes\r\n")
        assert terminal.raw
        is_told(terminal, 20, 70)
        resized(terminal)
        terminal.type("exit 6\r")
        assert terminal.end() == 6
        left_as_it_was(terminal)


def test_detach_keys_of_ones_own(plugrun, at_terminal, busybox):
    script = "stty raw -echo; echo ready; dd bs=1 count=2 2>/dev/null | od -An -tx1; exec sleep 1000"
    keys = ("--detach-keys", "ctrl-x,x")
    with at_terminal("run", "-it", "--name", "web", *keys, busybox, "sh", "-c", script) as terminal:
        terminal.expect("ready\n")
        terminal.type(DETACH)  # only keys now
        terminal.expect("10 11")
        terminal.type("\x18x")
        assert terminal.end() == 0
        left_as_it_was(terminal)
    assert state(plugrun, "web") == "running"
    with at_terminal("attach", *keys, "web") as terminal:
        until(lambda: terminal.raw)
        terminal.type("\x18x")
        assert terminal.end() == 0
        left_as_it_was(terminal)


@pytest.mark.parametrize("script", ["echo ready; exec sleep 1000", "trap '' HUP; while :; do echo ready; done"])
def test_a_terminal_that_vanishes_leaves_the_container_alone(plugrun, at_terminal, busybox, script):
    with at_terminal("run", "--rm", "-it", "--name", "web", busybox, "sh", "-c", script) as terminal:
        terminal.expect("ready\r\n")
        terminal.hang_up()
        terminal.process.wait(DEADLINE)
    assert state(plugrun, "web") == "running"


def test_start_with_our_terminal(plugrun, at_terminal, busybox):
    plugrun("create", "-it", "--name", "web", busybox, "sh").ok()
    for code in (3, 4):
        with at_terminal("start", "-ai", "web") as terminal:
            terminal.type("stty size\r")
            terminal.expect(f"{SIZE[0]} {SIZE[1]}\r\n")
            assert terminal.raw
            terminal.type(f"exit {code}\r")
            assert terminal.end() == code
            left_as_it_was(terminal)


def test_attach_to_a_container_without_a_terminal(plugrun, at_terminal, busybox):
    plugrun("run", "-d", "-i", "--name", "web", busybox, "sh", "-c", "read line; echo got $line; exit 4").ok()
    with at_terminal("attach", "web") as terminal:
        terminal.type("it\r")
        terminal.expect("got it\r\n")
        assert terminal.end() == 4
        left_as_it_was(terminal)


@pytest.mark.parametrize("option", ["--sig-proxy", "--no-sig-proxy"])
def test_ctrl_c_while_attached_to_a_container_without_a_terminal(plugrun, at_terminal, busybox, option):
    script = TRAP.replace("sleep 0.05", "echo tick; sleep 0.05")
    plugrun("run", "-d", "--name", "web", busybox, "sh", "-c", script).ok()
    with at_terminal("attach", option, "web") as terminal:
        terminal.expect("tick")
        left_as_it_was(terminal)
        terminal.type(INTERRUPT)
        assert terminal.end() == (9 if option == "--sig-proxy" else 130)
        assert ("caught" in terminal.screen) == (option == "--sig-proxy")
        assert "Traceback" not in terminal.screen
    assert state(plugrun, "web") == ("exited" if option == "--sig-proxy" else "running")


def test_the_log_is_what_the_terminal_showed(plugrun, at_terminal, busybox):
    script = "echo out; echo err >&2; printf '\\033[1mbold\\033[0m'"
    with at_terminal("run", "-it", "--name", "web", busybox, "sh", "-c", script) as terminal:
        assert terminal.end() == 0
        assert terminal.screen == "out\r\nerr\r\n\033[1mbold\033[0m"
        logs = plugrun("logs", "web").ok()
    assert (logs.stdout, logs.stderr) == (terminal.screen, "")


# --- exec -----------------------------------------------------------------------------------------------------------


def test_exec_a_shell(at_terminal, web):
    with at_terminal("exec", "-it", web, "sh") as terminal:
        terminal.type("test -t 0 && stty size\r")
        terminal.expect(f"{SIZE[0]} {SIZE[1]}\r\n")
        assert terminal.raw
        resized(terminal)
        terminal.type("exit 5\r")
        assert terminal.end() == 5
        left_as_it_was(terminal)


def test_exec_ctrl_c(at_terminal, web):
    with at_terminal("exec", "-it", web, "sh", "-c", TRAP) as terminal:
        terminal.expect("ready\r\n")
        terminal.type(INTERRUPT)
        assert terminal.end() == 9
        left_as_it_was(terminal)


@pytest.mark.parametrize(("command", "code"), [("nosuchcommand", 127), ("/etc", 126)])
def test_exec_what_cannot_start(at_terminal, web, command, code):
    with at_terminal("exec", "-it", web, command) as terminal:
        assert terminal.end() == code
        assert "plugrun: " in terminal.screen
        left_as_it_was(terminal)


def test_exec_detach(plugrun, at_terminal, web):
    with at_terminal(
        "exec", "-it", web, "sh", "-c", "echo ready; until [ -e /go ]; do :; done; touch /gone"
    ) as terminal:
        terminal.expect("ready\r\n")
        terminal.type(DETACH)
        assert terminal.end() == 0
        left_as_it_was(terminal)
    plugrun("exec", web, "sh", "-c", "touch /go; until [ -e /gone ]; do :; done").ok()  # it went on without us


def test_exec_in_a_container_that_is_killed(plugrun, at_terminal, web):
    with at_terminal("exec", "-it", web, "sh", "-c", "echo ready; sleep 1000") as terminal:
        terminal.expect("ready\r\n")
        plugrun("kill", web).ok()
        assert terminal.end() == 137
        left_as_it_was(terminal)
