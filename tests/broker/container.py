"""Runs one command as the image would have it run, without a container engine: `unshare -m python container.py SPEC`.

SPEC is JSON: argv, env, mounts (target -> source, read only) and tmpfs (options of /tmp). The command sees
a root of its own: /usr and Python of this machine, the mounts, /proc, /dev and an empty /tmp, all of it
read-only but /tmp. It has no capability, cannot gain one, and is uid 65532 when this script was started by root
(else whoever started it). Only the standard library is used: the script runs before anything is there.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, CAP_LAST = 1, 24, 38, 63
UID = 65532


def mount(source: str, target: Path | str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Call mount(2)."""
    words = [word.encode() for word in (source, str(target), kind)]
    if LIBC.mount(*words, ctypes.c_ulong(flags), data.encode()):
        code = ctypes.get_errno()
        raise OSError(code, f"mount {source} at {target}: {os.strerror(code)}")


def bind(source: Path | str, target: Path, *, read_only: bool = True) -> None:
    """Show a file or a directory at another place."""
    if Path(source).is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    mount(str(source), target, flags=MS_BIND | MS_REC)
    if read_only:
        mount("", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)


def make_root(root: Path, mounts: dict[str, str], tmpfs: str) -> None:
    """Build the root file system of the command."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=4m")
    bind("/usr", root / "usr")
    for name in ("bin", "sbin", "lib", "lib64"):
        at = Path("/", name)
        if at.is_symlink():
            (root / name).symlink_to(at.readlink())
        elif at.is_dir():
            bind(at, root / name)
    if not Path(sys.base_prefix).is_relative_to("/usr"):
        bind(sys.base_prefix, root / sys.base_prefix.lstrip("/"))
    for target, source in {"/etc/ld.so.cache": "/etc/ld.so.cache", **mounts}.items():
        bind(source, root / target.lstrip("/"))
    bind("/proc", root / "proc", read_only=False)
    bind("/dev", root / "dev", read_only=False)
    (root / "tmp").mkdir()
    mount("tmpfs", root / "tmp", "tmpfs", MS_NOSUID | MS_NODEV, tmpfs)
    mount("", root, flags=MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)


def renounce() -> None:
    """Give up root and every capability, for good."""
    for number in range(CAP_LAST + 1):
        LIBC.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)  # those that this kernel does not have are refused
    if Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]:  # the real root
        os.setgroups([])
        os.setresgid(UID, UID, UID)
        os.setresuid(UID, UID, UID)
    # A change of user forgets it: what we start must not outlive who started us.
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")


def main() -> None:
    """Become the command."""
    spec = json.loads(sys.argv[1])
    root = Path(spec["root"])
    make_root(root, spec["mounts"], spec["tmpfs"])
    os.chroot(root)
    os.chdir("/tmp")
    renounce()
    os.execvpe(spec["argv"][0], spec["argv"], spec["env"])


if __name__ == "__main__":
    main()
