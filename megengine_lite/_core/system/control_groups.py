"""What the control groups of this process allow: memory, and time of processors.

A process is in a group of each hierarchy, and the limits of all groups around that hold, too: containers, services of
systemd and batch systems set them at different levels. ``/proc/self/cgroup`` names the groups; ``/proc/self/mountinfo``
says where their files are, and which group a container sees as the outermost. Both versions of control groups are read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

_MEMORY = ("memory", "memory.max", "memory.limit_in_bytes")
_MEMORY_USED = ("memory.current", "memory.usage_in_bytes")
_UNUSED_FILES = ("inactive_file", "total_inactive_file")
_PROCESSORS = ("cpu", "cpu.max", "cpu.cfs_quota_us")
_PERIOD = "cpu.cfs_period_us"


def memory_of_groups(root: str = "/") -> int | None:
    """The most bytes that the groups of this process may take; None if nothing limits them.

    ``root`` is where ``proc`` and the mounted hierarchies are found.
    """
    return min((int(text) for text in _settings(*_MEMORY, root) if text.isdecimal()), default=None)


def memory_left_of_groups(root: str = "/") -> int | None:
    """The most bytes that this process may still take before a group is at its limit; None if nothing limits them.

    Contents of files that nobody has used lately do not count as taken: the system drops them first.
    """
    found = []
    for folder, old in _folders("memory", root):
        limit, used = (_text(os.path.join(folder, names[old])) for names in (_MEMORY[1:], _MEMORY_USED))
        if limit.isdecimal() and used.isdecimal():
            words = _text(os.path.join(folder, "memory.stat")).split()
            kept = dict(zip(words[::2], words[1::2], strict=False)).get(_UNUSED_FILES[old], "")
            found.append(max(0, int(limit) - int(used) + (int(kept) if kept.isdecimal() else 0)))
    return min(found, default=None)


def processors_of_groups(root: str = "/") -> float | None:
    """How many processors the groups of this process may keep busy; None if nothing limits them."""
    found = []
    for text in _settings(*_PROCESSORS, root):
        share, _, period = text.partition(" ")
        if share.isdecimal() and period.isdecimal() and int(share) and int(period):  # not "max", and not -1
            found.append(int(share) / int(period))
    return min(found, default=None)


def within_quota(processors: int, root: str = "/") -> int:
    """How many of some processors can be busy all the time, and so how many threads are worth having: at least one.

    More threads use up the time that the group has before its period ends, and then all of them stand still.
    """
    quota = processors_of_groups(root)
    return processors if quota is None else max(1, min(processors, int(quota)))


def _settings(controller: str, file: str, old_file: str, root: str) -> Iterator[str]:
    """What is set in the groups of this process and in those around them, as ``SHARE PERIOD`` for processors."""
    for folder, old in _folders(controller, root):
        text = _text(os.path.join(folder, old_file if old else file))
        if old and text and controller == "cpu":
            text += " " + _text(os.path.join(folder, _PERIOD))
        if text:
            yield text


def _folders(controller: str, root: str) -> Iterator[tuple[str, bool]]:
    """The folders of the groups, from the inmost to the outermost, and whether they are of version 1."""
    groups: dict[str, str] = {}  # by controller; the only one of version 2 has no name
    for line in _text(os.path.join(root, "proc/self/cgroup")).splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        groups.update(dict.fromkeys(names.split(","), path))
    for mount in _text(os.path.join(root, "proc/self/mountinfo")).splitlines():
        what, _, how = mount.partition(" - ")
        fields, options = what.split(" "), how.split(" ")
        if len(fields) < 5 or len(options) < 3 or options[0] not in ("cgroup", "cgroup2"):
            continue
        old = options[0] == "cgroup"
        if old and controller not in options[2].split(","):
            continue
        outermost, place = (_plain(field) for field in fields[3:5])
        top = os.path.join(root, place.lstrip("/"))
        inside = _inside(groups.get(controller if old else "", "/"), outermost)
        while inside:
            yield os.path.join(top, inside), old
            inside = inside.rpartition("/")[0]
        yield top, old


def _inside(group: str, outermost: str) -> str:
    """The path of a group below the outermost that is mounted; empty for a group that is not below it."""
    if outermost != "/":
        if group != outermost and not group.startswith(outermost + "/"):
            return ""
        group = group[len(outermost) :]
    parts = [part for part in group.split("/") if part]
    return "" if ".." in parts else "/".join(parts)


def _plain(field: str) -> str:
    """A path of mountinfo, in which spaces and the like stand as ``\\040``."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().strip()
    except (OSError, ValueError):  # ValueError: a path with a null character
        return ""
