"""Compiled system call filters, kept: libseccomp takes 8 ms to compile the default policy, for every container anew.

crun leaves what it compiled in its state directory, as ``seccomp.bpf``, and takes a compiled filter from an annotation
(crun(1), ``run.oci.seccomp_bpf_data``). A filter is kept together with the rules it was made from, and serves for those
only. The rules stay in the specification, so a crun that knows nothing of this compiles them as ever.
"""

from __future__ import annotations

import binascii
import contextlib
import json
import os
from pathlib import Path
from typing import Any

from plugrun.tuples import NamedTuple

ANNOTATION = "run.oci.seccomp_bpf_data"

_MOST = 64  # filters kept; each set of capabilities has its own


class Wanted(NamedTuple):
    """A filter that is not kept yet.

    :param path: where it will be.
    :param rules: what it is compiled from.
    """

    path: Path
    rules: bytes


def use(spec: dict[str, Any], directory: Path) -> Wanted | None:
    """Put the compiled filter into an OCI specification, if it is kept.

    :param directory: where filters are kept; need not exist.
    :return: what to :func:`keep` once the runtime has compiled it; ``None`` if it was kept, or there is no filter.
    """
    section = spec["linux"].get("seccomp")
    if section is None:
        return None
    rules = json.dumps(section, separators=(",", ":")).encode()
    wanted = Wanted(directory / f"{binascii.crc32(rules):08x}", rules)
    compiled = _read(wanted)
    if compiled is None:
        return wanted
    spec.setdefault("annotations", {})[ANNOTATION] = compiled
    return None


def keep(wanted: Wanted, compiled: Path) -> None:
    """Keep the filter that a runtime has compiled; nothing happens where it left none, or there is no room."""
    with contextlib.suppress(OSError):
        wanted.path.parent.mkdir(mode=0o700, exist_ok=True)
        if len(os.listdir(wanted.path.parent)) >= _MOST:
            return
        text = binascii.b2a_base64(compiled.read_bytes(), newline=False)
        new = wanted.path.with_name(f"{wanted.path.name}.{os.getpid()}")
        try:
            new.write_bytes(b"\n".join((wanted.rules, text, _checksum(wanted.rules, text))))
            new.rename(wanted.path)
        finally:
            new.unlink(missing_ok=True)


def _read(wanted: Wanted) -> str | None:
    try:
        content = wanted.path.read_bytes()
    except OSError:
        return None
    # The file's name is only a checksum, and after a power failure a file may be there in part: compare everything.
    rules, _, rest = content.partition(b"\n")
    compiled, _, checksum = rest.partition(b"\n")
    if rules != wanted.rules or not compiled or checksum != _checksum(rules, compiled):
        return None
    return compiled.decode("ascii")


def _checksum(rules: bytes, compiled: bytes) -> bytes:
    return b"%08x" % binascii.crc32(compiled, binascii.crc32(rules))
