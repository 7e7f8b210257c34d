"""What OCI runtimes write when they fail, turned into one error with one clean line."""

from __future__ import annotations

import json
import re

from plugrun.errors import CommandNotExecutable, CommandNotFound, DriverError, PlugrunError

# What crun 1.8 to 1.2x and runc 1.1 to 1.4 say when the container's command is at fault.
_NOT_FOUND = (
    r"executable file [`\"]?(?P<crun>[^`\"]*)[`\"]? ?not found in \$PATH"
    r"|exec: \"(?P<runc>[^\"]*)\": (?:executable file not found in \$PATH|stat .*: no such file or directory)"
)
_NOT_EXECUTABLE = (
    r"open executable: (?:Permission denied|Operation not permitted|Is a directory)"
    r"|exec: \"(?P<runc>[^\"]*)\": (?:permission denied|is a directory)"
    r"|(?i:exec format error)"
)


def failure(output: str, what: str, *, command: str | None = None) -> PlugrunError:
    """Turn what a runtime or conmon wrote into one error with one clean line.

    :param output: its standard error, or conmon's message: plain text, logrus text or JSON lines.
    :param what: the sentence to begin with when the command of the container is not at fault.
    :param command: that command, for runtimes that do not name it.
    """
    line = clean(output)
    if match := re.search(_NOT_FOUND, line) or re.search(_NOT_FOUND, output):  # the command's name may have line breaks
        name = match["crun"] or match["runc"] or command or ""
        return CommandNotFound(
            f"command {name!r} does not exist in the container",
            hint="check the spelling, the image's PATH, and that the image has it",
        )
    if match := re.search(_NOT_EXECUTABLE, line):
        name = match["runc"] or command or ""
        return CommandNotExecutable(
            f"command {name!r} cannot be executed in the container: {line.rpartition(': ')[2].lower()}",
            hint="it must be a program for this architecture with its x bit set",
        )
    return DriverError(f"{what}: {line}" if line else what)


def clean(output: str) -> str:
    """Return the most telling line of a runtime's output, without its log decoration or control characters."""
    lines = [_message(line.strip()) for line in output.splitlines() if line.strip()]
    errors = [text for level, text in lines if level in {"error", "fatal"}]
    chosen = (errors or [text for _, text in lines] or [""])[-1]
    return "".join(character for character in chosen if character.isprintable())[:1000]


def _message(line: str) -> tuple[str, str]:
    """Split one line into level and message."""
    if line.startswith("{"):
        try:
            entry = json.loads(line)
            return str(entry.get("level", "")), str(entry.get("msg", ""))
        except ValueError:
            return "", line
    if match := re.search(r'level=(\w+) msg=("(?:[^"\\]|\\.)*"|\S+)', line):
        text = match[2]
        if text.startswith('"'):
            text = text[1:-1].replace('\\"', '"').replace("\\\\", "\\")
        return match[1], text
    text = re.sub(r"^\d{4}-\d\d-\d\dT[\d:.]+Z?:? ", "", line)
    return "", text.removeprefix("[conmon:e]: ")
