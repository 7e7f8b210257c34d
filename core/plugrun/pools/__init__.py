"""Pools: file systems in files, for storage drivers whose state directory is not on one that they can use.

A pool is a file and a record of it. It is mounted on its driver's state directory by the first process that opens the
driver, after each boot anew, and stays mounted. The driver notices nothing of it.
"""
