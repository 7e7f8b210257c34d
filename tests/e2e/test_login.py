"""``plugrun login`` and ``logout`` against registries that check passwords, and those that issue tokens."""

from __future__ import annotations

import base64
import json
import sys

import pytest

from fixtures.engine import Cli
from fixtures.registry import PASSWORD, USERNAME
from terminals import Terminal

pytestmark = pytest.mark.root

HELPER = f"""#!{sys.executable} -I
import os, sys
open(os.environ["HOME"] + "/helped", "a").write(sys.argv[1] + " " + sys.stdin.read() + "\\n")
if sys.argv[1] == "get":
    print("credentials not found in native keychain")
    sys.exit(1)
"""


@pytest.fixture(scope="session", params=["basic_registry", "shared_token_registry"])
def shut_registry(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def user(private_root, home, tmp_path, basic_registry, shared_token_registry):
    """The program as a user starts it who has no credentials yet, and trusts both registries."""
    certs = tmp_path / "certs"
    certs.mkdir()
    for registry in (basic_registry, shared_token_registry):
        for place in registry.certs_dir.iterdir():
            (certs / place.name).symlink_to(place)
    environment = {"HOME": str(home), "XDG_RUNTIME_DIR": str(tmp_path / "run"), "PLUGRUN_CERTS_DIR": str(certs)}
    return Cli(private_root, environment)


def stored(home):
    path = home / ".docker" / "config.json"
    return json.loads(path.read_text())["auths"] if path.exists() else {}


def pair(password=PASSWORD):
    return {"auth": base64.b64encode(f"{USERNAME}:{password}".encode()).decode()}


def keep(home, content):
    (home / ".docker").mkdir(parents=True, exist_ok=True)
    (home / ".docker" / "config.json").write_text(json.dumps(content))


def refused(result, reason):
    assert result.code == 1
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Login Succeeded" not in result.stdout


@pytest.mark.parametrize("line_end", ["", "\n", "\r\n"])
def test_a_right_password_is_kept(user, home, shut_registry, line_end):
    result = user("login", "-u", USERNAME, "--password-stdin", shut_registry.host, input=PASSWORD + line_end).ok()
    assert result.stdout == "Login Succeeded\n"
    assert f"the password is stored unencrypted in {home}/.docker/config.json" in result.stderr
    assert stored(home) == {shut_registry.host: pair()}
    again = user("login", shut_registry.host).ok()
    assert again.stdout == "Authenticating with existing credentials...\nLogin Succeeded\n"
    assert again.stderr == ""


def test_a_wrong_password_is_not_kept(user, home, shut_registry):
    result = user("login", "-u", USERNAME, "--password-stdin", shut_registry.host, input="wrong")
    refused(result, f"registry {shut_registry.host} refuses the credentials of {USERNAME}")
    assert result.stderr.endswith("; check user name and password\n")
    assert stored(home) == {}


def test_a_wrong_password_leaves_the_right_one(user, home, shut_registry):
    keep(home, {"auths": {shut_registry.host: pair()}})
    assert user("login", "-u", USERNAME, "--password-stdin", shut_registry.host, input="wrong").code == 1
    assert stored(home) == {shut_registry.host: pair()}


def test_credentials_that_have_become_wrong_are_refused(user, home, shut_registry):
    keep(home, {"auths": {shut_registry.host: pair("old")}})
    refused(user("login", shut_registry.host), "refuses the credentials")


def test_a_password_on_the_command_line_is_warned_of(user, home, basic_registry):
    result = user("login", "-u", USERNAME, "-p", PASSWORD, basic_registry.host).ok()
    assert "a password on the command line is seen by all users of this host" in result.stderr
    assert PASSWORD not in result.stdout + result.stderr
    assert stored(home) == {basic_registry.host: pair()}


@pytest.mark.parametrize(
    ("options", "given", "reason"),
    [
        ([], "", "standard input is not a terminal; use --username and --password-stdin"),
        (["-u", USERNAME], "", "standard input is not a terminal; use --username and --password-stdin"),
        (["-p", "x"], "", "cannot ask for a user name: standard input is not a terminal; use --username"),
        (["--password-stdin"], PASSWORD, "--password-stdin needs --username"),
        (["-u", "", "--password-stdin"], PASSWORD, "--password-stdin needs --username"),
        (["-u", USERNAME, "-p", PASSWORD, "--password-stdin"], PASSWORD, "exclude each other"),
        (["-u", USERNAME, "--password-stdin"], "", "the password is empty"),
        (["-u", USERNAME, "--password-stdin"], "\n", "the password is empty"),
        (["-u", USERNAME, "--password-stdin"], b"secret\xff", "the password is not UTF-8"),
        (["-u", USERNAME, "--password-stdin"], "secret" * 20_000, "too long for a password"),
        (["-u", "a:b", "--password-stdin"], PASSWORD, "refuses the credentials of a"),
    ],
)
def test_what_cannot_be_a_login_is_refused(user, home, basic_registry, options, given, reason):
    result = user("login", *options, basic_registry.host, input=given)
    assert (result.code, result.stdout) == (1, "")
    assert reason in result.stderr.splitlines()[-1]
    assert "secret" not in result.stderr
    assert stored(home) == {}


def test_at_a_terminal_it_asks_and_does_not_show_the_password(user, home, basic_registry, monkeypatch):
    for name, value in user.env.items():
        monkeypatch.setenv(name, value)
    with Terminal(user.argv("login", basic_registry.host)) as person:
        person.expect("Username: ")
        person.type(f"{USERNAME}\n")
        person.expect("Password: ")
        person.type(f"{PASSWORD}\n")
        person.expect("Login Succeeded")
        assert person.end() == 0
        assert PASSWORD not in person.screen
        assert person.settings() == person.before
    assert stored(home) == {basic_registry.host: pair()}


def test_at_a_terminal_it_asks_again_when_the_stored_password_is_wrong(user, home, basic_registry, monkeypatch):
    keep(home, {"auths": {basic_registry.host: pair("old")}})
    for name, value in user.env.items():
        monkeypatch.setenv(name, value)
    with Terminal(user.argv("login", basic_registry.host)) as person:
        person.expect("login did not succeed")
        person.expect("Username: ")
        person.type(f"{USERNAME}\n")
        person.expect("Password: ")
        person.type(f"{PASSWORD}\n")
        person.expect("Login Succeeded")
        assert person.end() == 0
    assert stored(home) == {basic_registry.host: pair()}


@pytest.mark.parametrize("name", ["\r", "\x04"])
def test_without_a_user_name_no_password_is_asked_for(user, basic_registry, monkeypatch, name):
    for variable, value in user.env.items():
        monkeypatch.setenv(variable, value)
    with Terminal(user.argv("login", basic_registry.host)) as person:
        person.expect("Username: ")
        person.type(name)
        person.expect("\r\nplugrun: the user name is empty")
        assert person.end() == 1
    assert "Password" not in person.screen


@pytest.mark.parametrize(
    ("options", "question", "shown"), [((), "Username: ", "^C\r\n"), (("-u", "x"), "Password: ", "\r\n")]
)
def test_an_interrupt_at_a_question_leaves_the_shell_a_line_of_its_own(
    user, basic_registry, monkeypatch, options, question, shown
):
    for variable, value in user.env.items():
        monkeypatch.setenv(variable, value)
    with Terminal(user.argv("login", *options, basic_registry.host)) as person:
        person.expect(question)
        person.type("\x03")
        assert person.end() == 130
    assert person.screen.endswith(question + shown)


def test_an_interrupt_at_the_prompt_stores_nothing(user, home, basic_registry, monkeypatch):
    for name, value in user.env.items():
        monkeypatch.setenv(name, value)
    with Terminal(user.argv("login", "-u", USERNAME, basic_registry.host)) as person:
        person.expect("Password: ")
        person.type("\x03")
        assert person.end() == 130
        assert person.settings() == person.before
    assert stored(home) == {}


@pytest.mark.parametrize("form", ["https://{}", "https://{}/v2/", "{}/"])
def test_a_registry_may_be_written_as_a_url(user, home, basic_registry, form):
    server = form.format(basic_registry.host)
    user("login", "-u", USERNAME, "--password-stdin", server, input=PASSWORD).ok()
    assert stored(home) == {basic_registry.host: pair()}
    assert user("logout", server).ok().line == f"Removing login credentials for {basic_registry.host}"
    assert stored(home) == {}


@pytest.mark.parametrize("server", ["registry", "a.com/team", "a.com:x", "", "-x.com", "a b.com", "\x1b]0;x\x07.com"])
def test_what_is_no_registry_is_refused(user, home, server):
    for command in (["login", "-u", "a", "-p", "b"], ["logout"]):
        result = user(*command, "--", server)
        assert result.code == 1
        assert "is no registry; write HOST[:PORT]" in result.stderr
        assert "\x1b" not in result.stderr
    assert stored(home) == {}


def test_a_registry_that_is_not_trusted_sees_no_password(user, home, basic_registry, tmp_path):
    before = len(basic_registry.requests())
    result = user(
        *("login", "-u", USERNAME, "--password-stdin", basic_registry.host),
        input=PASSWORD,
        env={"PLUGRUN_CERTS_DIR": str(tmp_path / "empty")},
    )
    refused(result, "certificate is not trusted")
    assert len(basic_registry.requests()) == before
    assert stored(home) == {}


def test_a_registry_without_tls_sees_no_password(user, home, stubs):
    plain = stubs(tls=False, name="registry.test")
    result = user("login", "-u", "ada", "--password-stdin", plain.host, input="secret")
    refused(result, "speaks plain HTTP")
    assert plain.secrets() == []
    assert stored(home) == {}


def test_a_blocked_registry_is_asked_nothing(user, home, basic_registry, tmp_path):
    (tmp_path / "registries.conf").write_text(f'[[registry]]\nlocation = "{basic_registry.host}"\nblocked = true\n')
    before = len(basic_registry.requests())
    result = user(
        *("login", "-u", USERNAME, "--password-stdin", basic_registry.host),
        input=PASSWORD,
        env={"PLUGRUN_REGISTRIES_CONF": str(tmp_path / "registries.conf")},
    )
    refused(result, "is blocked by")
    assert len(basic_registry.requests()) == before


def test_a_credential_helper_keeps_it_instead(user, home, basic_registry, tmp_path):
    keep(home, {"credsStore": "test"})
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker-credential-test").write_text(HELPER)
    (tmp_path / "bin" / "docker-credential-test").chmod(0o755)
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    login = ["login", "-u", USERNAME, "--password-stdin", basic_registry.host]
    result = user(*login, input=PASSWORD, env=environment).ok()
    assert (result.stdout, result.stderr) == ("Login Succeeded\n", "")
    assert stored(home) == {basic_registry.host: {}}
    asked = (home / "helped").read_text().splitlines()[-1]
    assert json.loads(asked.removeprefix("store ")) == {
        "ServerURL": basic_registry.host,
        "Username": USERNAME,
        "Secret": PASSWORD,
    }


def test_a_damaged_file_is_not_destroyed(user, home, basic_registry):
    (home / ".docker").mkdir(parents=True)
    (home / ".docker" / "config.json").write_text("{broken")
    login = ["login", "-u", USERNAME, "--password-stdin", basic_registry.host]
    refused(user(*login, input=PASSWORD), "config.json is not valid JSON")
    refused(user("logout", basic_registry.host), "config.json is not valid JSON")
    assert (home / ".docker" / "config.json").read_text() == "{broken"


def test_logout_forgets(user, home):
    keep(home, {"auths": {"https://index.docker.io/v1/": pair(), "a.com": pair()}, "x": 1})
    assert user("logout").ok().line == "Removing login credentials for docker.io"
    assert stored(home) == {"a.com": pair()}
    assert user("logout").ok().line == "Not logged in to docker.io"
    assert user("logout", "a.com").ok().line == "Removing login credentials for a.com"
    assert json.loads((home / ".docker" / "config.json").read_text()) == {"auths": {}, "x": 1}


def test_logout_tells_what_podman_keeps(user, tmp_path):
    (tmp_path / "run" / "containers").mkdir(parents=True)
    (tmp_path / "run" / "containers" / "auth.json").write_text(json.dumps({"auths": {"a.com": pair()}}))
    result = user("logout", "a.com").ok()
    assert result.line == "Not logged in to a.com"
    assert "remove them with podman logout a.com" in result.stderr
