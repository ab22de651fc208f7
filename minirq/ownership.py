"""Whose a file or a directory is: whether a stranger wrote it, or could change it."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def is_of_stranger(about: os.stat_result) -> bool:
    """Whether neither this user nor root owns it."""
    # in a user namespace without root, what is root's seems to be nobody's: "/" shows as whose
    return about.st_uid not in (os.geteuid(), 0, Path("/").stat().st_uid)


def is_open_to_others(about: os.stat_result) -> bool:
    """Whether others than its owner may write it. A group counts unless it is the owner's private one."""
    if about.st_mode & stat.S_IWOTH:
        return True
    return bool(about.st_mode & stat.S_IWGRP) and not _is_private_group(about.st_gid, about.st_uid)


def _is_private_group(gid: int, uid: int) -> bool:
    import grp  # Windows has neither
    import pwd  # of these

    try:
        owner, group = pwd.getpwuid(uid), grp.getgrgid(gid)
    except KeyError:  # in a container, ids may have no names
        return gid == uid
    is_their_own = owner.pw_gid == gid and group.gr_name == owner.pw_name
    return is_their_own and set(group.gr_mem) <= {owner.pw_name}
