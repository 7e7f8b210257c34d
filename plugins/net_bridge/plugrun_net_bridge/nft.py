"""nftables commands through libnftables(3), which is loaded when the first one is run (2 ms)."""

from __future__ import annotations

import ctypes
import os
import threading

from plugrun.api import DriverError, Unavailable

_LIBRARY = "libnftables.so.1"
_NUMERIC = 0b111 << 7 | 1 << 10  # protocols, priorities, symbols and times: what /etc/protocols says does not matter
_JSON = 1 << 4


class _Library:
    """One context; it stays with the network namespace in which it was made."""

    def __init__(self) -> None:
        try:
            self._lib = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise Unavailable(f"{_LIBRARY} cannot be loaded: {error}", hint="install the package nftables") from None
        self._lib.nft_ctx_new.restype = ctypes.c_void_p
        self._lib.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        self._lib.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
        self._context = ctypes.c_void_p(self._lib.nft_ctx_new(ctypes.c_uint32(0)))
        if not self._context:
            raise Unavailable("libnftables cannot be used", hint="this needs root, and a kernel with nf_tables")
        self._lib.nft_ctx_buffer_error(self._context)
        self._lib.nft_ctx_buffer_output(self._context)

    def run(self, commands: str, flags: int) -> tuple[bool, str]:
        """Return whether it worked, and what came out of it: the answer or the complaint."""
        lib, context = self._lib, self._context
        lib.nft_ctx_output_set_flags(context, ctypes.c_uint(flags))
        failed = lib.nft_run_cmd_from_buffer(context, commands.encode())
        # Asking for a buffer also empties it, so both are asked for.
        complaint, answer = lib.nft_ctx_get_error_buffer(context), lib.nft_ctx_get_output_buffer(context)
        return not failed, bytes(complaint if failed else answer).decode(errors="replace")

    def close(self) -> None:
        self._lib.nft_ctx_free(self._context)


_lock = threading.Lock()
_open: dict[tuple[int, int], _Library] = {}


def _library() -> _Library:
    """Return the context for this process and network namespace."""
    key = (os.getpid(), os.stat("/proc/thread-self/ns/net").st_ino)
    if key not in _open:
        for other in _open.values():
            other.close()
        _open.clear()
        _open[key] = _Library()
    return _open[key]


def run(commands: str, *, json: bool = False, numeric: bool = True) -> str:
    """Run commands of nft(8), all in one transaction, and return what they list.

    :param json: list as libnftables-json(5).
    :param numeric: list numbers, not what they mean: ``6`` for ``tcp``.
    :raises Unavailable: the library, the kernel's part or the right is missing.
    :raises DriverError: nftables refused; nothing has changed.
    """
    with _lock:
        worked, text = _library().run(commands, (_NUMERIC if numeric else 0) | (_JSON if json else 0))
    if worked:
        return text
    reason = text.partition("\n")[0].removeprefix("Error: ")
    if "not permitted" in reason:
        raise Unavailable(f"nftables: {reason}", hint="run as root")
    if "not supported" in reason:
        raise Unavailable(f"nftables: {reason}", hint="use a kernel with nf_tables and NAT")
    raise DriverError(f"nftables: {reason}")
