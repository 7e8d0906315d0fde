"""What the tests of the deployment share: the wheelhouse, and an installation from it without any network."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
WHEELHOUSE = ROOT / "dist" / "wheelhouse"
OPT = ROOT / ".cache" / "deploy" / "opt"  # what is /opt where the service runs
#: a root in a user name space can do all that these tests need, without being root
AS_ROOT = () if os.geteuid() == 0 else ("--map-root-user",)
TIMEOUT_S = 200


def clean_environment() -> dict[str, str]:
    """Return an environment that knows nothing of this repository, its Python or any package index."""
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def run(words: Sequence[object], env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> str:
    """Run a command that must succeed; return what it said."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{words[0]}: exit code {done.returncode}\n{done.stdout[-4000:]}"
    return done.stdout


@functools.cache
def needs_namespaces() -> None:
    """Fail with a clear line where the kernel does not let us make name spaces."""
    words = ["unshare", "--map-root-user", "--net", "--mount", "true"]
    tool = shutil.which("unshare")
    assert tool, "unshare is missing: apt-get install util-linux"
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (
        "this test makes a network and a file system of its own, and this machine does not permit it "
        f"({done.stderr.strip()}): allow user name spaces (sysctl kernel.unprivileged_userns_clone=1, "
        "kernel.apparmor_restrict_unprivileged_userns=0), or run the container of the CI with "
        "--security-opt seccomp=unconfined"
    )


def offline(words: Sequence[object]) -> list[object]:
    """Return a command line that runs in a network of loopback only."""
    needs_namespaces()
    return ["unshare", *AS_ROOT, "--net", sys.executable, HERE / "loopback.py", *words]


@functools.cache
def wheelhouse() -> Path:
    """Make the wheelhouse, once in a run of the tests."""
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    run(["make", "--no-print-directory", "wheelhouse"], env)
    return WHEELHOUSE


def install_words(python: Path, wheels: Path) -> list[object]:
    """Return the command that docs/OPERATIONS.md gives for an installation without a network."""
    words = [
        sys.executable,
        "-m",
        "pip",
        "--isolated",
        "--python",
        python,
        "install",
        "--no-cache-dir",
        "--quiet",
    ]
    listed = wheels / "requirements.txt"
    return [*words, "--no-index", "--find-links", wheels, "--require-hashes", "-r", listed]


@functools.cache
def installed() -> Path:
    """Install from the wheelhouse as /opt/streamproc would be, once; return what stands for /opt."""
    shutil.rmtree(OPT, ignore_errors=True)
    OPT.mkdir(parents=True)
    wheels = wheelhouse()
    # The scripts of an environment carry its path, so it is made where it will be: /opt, shown to this command only.
    home = Path("/opt/streamproc")
    script = f"mount --bind '{OPT}' /opt && '{sys.executable}' -m venv --without-pip {home} && " + " ".join(
        f"'{word}'" for word in install_words(home / "bin" / "python", wheels)
    )
    needs_namespaces()
    run(
        ["unshare", *AS_ROOT, "--mount", "--net", "sh", "-euc", script],
        clean_environment() | {"HOME": "/tmp"},
    )
    return OPT
