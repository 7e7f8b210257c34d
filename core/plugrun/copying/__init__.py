"""Copying files between a container and the host, with Docker's rules and none of its races.

A container is hostile, and may run while it is copied from or to. So nothing here trusts a name twice: both ends are
found by openat2(2) inside their root, everything below them is reached from descriptors without following any link,
and nothing of the container is executed, imported or asked for names (CVE-2018-15664, CVE-2019-14271).

``paths`` says what the two sides mean, ``ends`` finds them, ``view`` is a container's file system, ``walk`` reads a
tree, ``place`` writes one, ``tar_in`` and ``tar_out`` stand for either, and ``copy`` puts them together.
"""
