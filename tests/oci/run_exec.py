"""Run one exec with the streams of this process: ``python run_exec.py REQUEST-AS-JSON``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from plugrun.errors import CommandNotExecutable, CommandNotFound, PlugrunError
from plugrun.oci import keys
from plugrun.oci.exec import ExecRequest, ExecUser, exec_detached, exec_foreground
from plugrun.oci.runtime import Runtime


def main() -> int:
    values = json.loads(sys.argv[1])
    detached = values.pop("detached", False)
    values["runtime"] = Runtime(*values["runtime"])
    if user := values.get("user"):
        values["user"] = ExecUser(*user)
    for name in ("bundle", "run_dir"):
        values[name] = Path(values[name])
    for name in ("args", "env"):
        values[name] = tuple(values.get(name, ()))
    try:
        if detached:
            print(exec_detached(ExecRequest(**values)))
            return 0
        return exec_foreground(ExecRequest(**values), detach_keys=keys.parse(keys.DEFAULT))
    except PlugrunError as error:
        print(error, file=sys.stderr)
        return 127 if isinstance(error, CommandNotFound) else 126 if isinstance(error, CommandNotExecutable) else 125
    finally:
        open_fds = len(os.listdir("/proc/self/fd"))
        if os.environ.get("COUNT_FDS"):
            print(f"fds={open_fds}", file=sys.stderr)


sys.exit(main())
