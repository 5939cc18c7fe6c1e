"""The files of a Linux system below a root: /sys, /proc and /dev, of this machine or a copy of them.

Everything that this part asks of the system goes through here: a place is a path below the root without
the first slash, such as "sys/bus/vmbus/devices".  A root other than "/" is a copy, as support tools collect
them, or a tree that a test has made.

What is read comes and goes: an attribute may not be there yet, belong to another kernel, or vanish with its
device in the middle of a look.  So whoever reads gets None for what is missing or cannot be read, and never
an exception.  Who changes something does get one.

Sources: Linux Documentation/filesystems/sysfs.rst, Documentation/ABI/stable/sysfs-bus-vmbus.
"""

from __future__ import annotations

import mmap
import os
import re
import stat
import subprocess
from typing import TypeAlias

from vmbus.errors import DeviceError

from .node import QUIETLY, SystemNode, UioNode, map_descriptor, refused

__all__ = ["Root", "System", "system_at"]

#: Of an attribute so many bytes are read; the kernel prints at most a page, of 64 KiB where pages are largest.
LONGEST_TEXT = 1 << 16

#: Of a list in /proc at most so many bytes are read.
LONGEST_LIST = 1 << 24

#: That loading a module may take.
MODPROBE_SECONDS = 60

NUMBER = re.compile(r"-?(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})")


class System:
    """One Linux system.

    root        where its /sys, /proc and /dev are found
    page_size   bytes of a page of this machine's kernel: what offsets in /dev/uioN count.  A copy may be of a kernel
                with others, and tells itself: see page_sizes
    """

    page_size: int = mmap.PAGESIZE

    def __init__(self, root: str | os.PathLike[str] = "/") -> None:
        self.root = os.fspath(root)

    def path(self, place: str) -> str:
        """The path to open for a place, also for messages."""
        return os.path.join(self.root, place)

    @property
    def is_this_machine(self) -> bool:
        """Whether the root is that of the machine this runs on."""
        return os.path.abspath(self.root) == "/"

    # -- looking: None for what is not there -----------------------------------------------------

    def text(self, place: str) -> str | None:
        """What an attribute says, without blanks around it."""
        path = self.path(place)
        try:
            if not is_file(path):
                return None
            descriptor = os.open(path, os.O_RDONLY | QUIETLY)
            try:
                return os.read(descriptor, LONGEST_TEXT).decode("utf-8", "replace").strip()
            finally:
                os.close(descriptor)
        except (OSError, ValueError):
            return None

    def whole_text(self, place: str) -> str | None:
        """All that a file says: the lists in /proc come a piece at a time.  None also where it is too long."""
        path = self.path(place)
        try:
            if not is_file(path):
                return None
            with open(path, "rb", opener=lambda name, flags: os.open(name, flags | QUIETLY)) as file:
                data = file.read(LONGEST_LIST + 1)
        except (OSError, ValueError):
            return None
        return data.decode("utf-8", "replace") if len(data) <= LONGEST_LIST else None

    def number(self, place: str) -> int | None:
        """What an attribute says, where it is one number, decimal or 0x."""
        text = self.text(place)
        if text is None or not NUMBER.fullmatch(text):
            return None
        return int(text, 16) if "x" in text.lower() else int(text)

    def names(self, place: str) -> list[str]:
        """What a folder holds, sorted; nothing where there is none."""
        try:
            return sorted(os.listdir(self.path(place)))
        except (OSError, ValueError):
            return []

    def folders(self, place: str) -> list[str]:
        """Which of what a folder holds are folders, sorted; links to folders are none."""
        try:
            with os.scandir(self.path(place)) as entries:
                return sorted(one.name for one in entries if one.is_dir(follow_symlinks=False))
        except (OSError, ValueError):
            return []

    def exists(self, place: str) -> bool:
        return os.path.exists(self.path(place))

    def file_size(self, place: str) -> int | None:
        """Bytes of a file; None for what is no file, such as a folder."""
        try:
            found = os.stat(self.path(place))
        except (OSError, ValueError):
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def link_name(self, place: str) -> str | None:
        """The last name of what a symbolic link points to: of `driver` links, the driver."""
        try:
            return os.path.basename(os.readlink(self.path(place)).rstrip("/"))
        except (OSError, ValueError):
            return None

    def real_path(self, place: str) -> str:
        """The path with every symbolic link followed; with none, where the system knows no such path."""
        try:
            return os.path.realpath(self.path(place))
        except (OSError, ValueError, RecursionError):
            return os.path.join(os.path.realpath(self.root), place)

    # -- acting: DeviceError for what the system refuses ------------------------------------------

    def write(self, place: str, text: str) -> None:
        """Store `text` in an attribute with one write."""
        path = self.path(place)
        try:
            # Not O_CREAT: a name that is not there is an attribute that this kernel does not have.
            descriptor = os.open(path, os.O_WRONLY | QUIETLY)
            try:
                os.write(descriptor, text.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise DeviceError(error.errno, f"{path}: {error.strerror} (writing {text.strip()!r})") from error

    def load_module(self, name: str) -> None:
        """Have the kernel load a module and what it needs; loaded already is well."""
        try:
            done = subprocess.run(
                ["modprobe", name], capture_output=True, text=True, timeout=MODPROBE_SECONDS, check=False
            )
        except OSError as error:
            raise DeviceError(error.errno, f"modprobe {name}: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise DeviceError(None, f"modprobe {name}: no answer within {MODPROBE_SECONDS} s") from error
        if done.returncode:
            raise DeviceError(None, f"modprobe {name}: {done.stderr.strip() or 'refused'}")

    def open_node(self, name: str, *, writable: bool) -> UioNode:
        """The device /dev/`name`, opened; which opens its channel when nobody else holds it."""
        return SystemNode(self.path(f"dev/{name}"), writable=writable)

    def map_file(self, place: str, length: int, *, writable: bool) -> mmap.mmap:
        """The first `length` bytes of a file, shared with everybody else who maps it."""
        path = self.path(place)
        flags = os.O_RDWR if writable else os.O_RDONLY
        try:
            descriptor = os.open(path, flags | QUIETLY)
        except OSError as error:
            raise refused(error, path) from error
        try:
            return map_descriptor(descriptor, path, 0, length, writable=writable)
        finally:
            os.close(descriptor)


def is_file(path: str) -> bool:
    """Whether it is one.  A copy may hold anything, and to open a pipe or a device does something."""
    return stat.S_ISREG(os.stat(path).st_mode)


#: What functions take that look at a system: the system, or only its root.
Root: TypeAlias = "System | str | os.PathLike[str]"


def system_at(root: Root) -> System:
    """The system with that root."""
    return root if isinstance(root, System) else System(root)
