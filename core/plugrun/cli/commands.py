"""Which commands there are, where each lives, and the heading it stands under in the help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from plugrun.tuples import NamedTuple

RUN = "Run containers"
LOOK = "Look at containers"
IMAGES = "Images"
REGISTRIES = "Registries"
ENGINE = "Engine"


class Entry(NamedTuple):
    """One command.

    :param target: ``module:function`` in ``plugrun.cli``, imported when called: each command pays only for itself.
    :param command_last: what follows the first argument belongs to the container's command, whatever it looks like.
    """

    target: str
    panel: str | None = None
    hidden: bool = False
    command_last: bool = False

    def load(self) -> Callable[..., Any]:
        """Import the command's function."""
        module, _, function = self.target.partition(":")
        found: Callable[..., Any] = getattr(import_module(f"plugrun.cli.{module}"), function)
        return found


class Group(NamedTuple):
    """Commands under a word of their own, such as ``plugrun image ls``.

    :param default: the command that the word is by itself, such as ``plugrun port web``. It takes a line unless that
        has two words more than ``plugrun port add``, or an option: with one or none, ``add`` is a container.
    :param panel: heading it stands under in the help, if not that of all groups.
    """

    summary: str
    entries: Mapping[str, Entry]
    default: Entry | None = None
    panel: str | None = None

    def find(self, words: list[str]) -> tuple[Entry, list[str]] | None:
        """Return the command that words after the group's begin with, and the words after it."""
        entry = self.entries.get(words[0]) if words else None
        if entry and (self.default is None or len(words) > 2 or words[-1].startswith("-")):
            return entry, words[1:]
        return (self.default, words) if self.default else None


_CONTAINER = {
    "create": Entry("run:create", RUN, command_last=True),
    "run": Entry("run:run", RUN, command_last=True),
    "start": Entry("control:start", RUN),
    "stop": Entry("control:stop", RUN),
    "kill": Entry("control:kill", RUN),
    "wait": Entry("control:wait", RUN),
    "rm": Entry("control:rm", RUN),
    "exec": Entry("exec:exec_", RUN, command_last=True),
    "attach": Entry("attach:attach", RUN),
    "commit": Entry("commit:commit", RUN),
    "export": Entry("export:export", RUN),
    "diff": Entry("diff:diff", LOOK),
    "cp": Entry("cp:cp", RUN),
    "logs": Entry("logs:logs", LOOK),
    "inspect": Entry("inspect:inspect_container", LOOK),
    "rollback": Entry("branch:rollback", RUN),
    "clone": Entry("branch:clone", RUN),
    "move": Entry("move:move", RUN),
}
_PORT = Entry("port:port", LOOK)
GROUPS: Mapping[str, Group] = {
    "container": Group(
        "Work with containers.",
        {
            **_CONTAINER,
            "ls": Entry("ps:ps", LOOK),
            "port": Entry("port:port", LOOK),
            "cleanup": Entry("control:cleanup", hidden=True),
        },
    ),
    "image": Group(
        "Work with images.",
        {
            "pull": Entry("pull:pull"),
            "push": Entry("push:push"),
            "ls": Entry("images:ls"),
            "load": Entry("load:load"),
            "save": Entry("save:save"),
            "import": Entry("load:import_"),
            "tag": Entry("tag:tag"),
            "untag": Entry("tag:untag"),
            "inspect": Entry("inspect:inspect_image"),
            "history": Entry("history:history"),
            "rm": Entry("rmi:rm"),
            "prune": Entry("prune:prune"),
        },
    ),
    "snapshot": Group(
        "Keep what containers have written.",
        {"create": Entry("snapshot:create"), "ls": Entry("snapshot:ls"), "rm": Entry("snapshot:rm")},
    ),
    "system": Group("Look at the engine as a whole.", {"df": Entry("df:df"), "info": Entry("system:info")}),
    "volume": Group(
        "Work with volumes.",
        {
            "create": Entry("volume:create"),
            "ls": Entry("volume:ls"),
            "inspect": Entry("inspect:inspect_volume"),
            "clone": Entry("volume:clone"),
            "rm": Entry("volume:rm"),
            "prune": Entry("volume:prune"),
        },
    ),
    "network": Group(
        "Work with networks.",
        {
            "create": Entry("network:create"),
            "ls": Entry("network:ls"),
            "inspect": Entry("inspect:inspect_network"),
            "connect": Entry("network_changes:connect"),
            "disconnect": Entry("network_changes:disconnect"),
            "explain": Entry("network_paths:explain"),
            "reload": Entry("network_paths:reload"),
            "exists": Entry("network:exists"),
            "rm": Entry("network:rm"),
            "prune": Entry("network:prune"),
        },
    ),
    "port": Group(
        "Show where the ports of a container are published, or publish more and fewer of them.",
        {"add": Entry("port:add"), "rm": Entry("port:rm")},
        default=_PORT,
        panel=LOOK,
    ),
    "storage": Group(
        "See where storage drivers keep things, and manage their pools.",
        {
            "create": Entry("storage:create"),
            "ls": Entry("storage:ls"),
            "inspect": Entry("storage:inspect"),
            "resize": Entry("storage:resize"),
            "rm": Entry("storage:rm"),
        },
    ),
    "manifest": Group("Look at registries' manifests.", {"inspect": Entry("manifest:inspect")}),
    "plugin": Group("See the installed drivers.", {"ls": Entry("plugin:ls")}),
}
TOP: Mapping[str, Entry] = {
    **_CONTAINER,
    "ps": Entry("ps:ps", LOOK),
    "inspect": Entry("inspect:inspect", LOOK),
    "images": Entry("images:ls", IMAGES),
    "load": Entry("load:load", IMAGES),
    "save": Entry("save:save", IMAGES),
    "import": Entry("load:import_", IMAGES),
    "tag": Entry("tag:tag", IMAGES),
    "untag": Entry("tag:untag", IMAGES),
    "history": Entry("history:history", IMAGES),
    "rmi": Entry("rmi:rm", IMAGES),
    "pull": Entry("pull:pull", REGISTRIES),
    "push": Entry("push:push", REGISTRIES),
    "login": Entry("login:login", REGISTRIES),
    "logout": Entry("login:logout", REGISTRIES),
    "info": Entry("system:info", ENGINE),
    "doctor": Entry("system:doctor", ENGINE),
    "version": Entry("system:version", ENGINE),
}

VERSION = Entry("system:print_version")  # plugrun --version


def find(words: list[str]) -> tuple[Entry, list[str]] | None:
    """Return the command that a line begins with and the words after it; ``None`` if it begins with none of ours."""
    if words[:1] and words[0] in TOP:
        return TOP[words[0]], words[1:]
    group = GROUPS.get(words[0]) if words else None
    return group.find(words[1:]) if group else None
