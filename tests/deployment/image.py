"""The root of an image, as configs/deployment/Dockerfile makes it, on this machine's own files and without Docker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
DEPLOYMENT = ROOT / "configs" / "deployment"
DOCKERFILE = (DEPLOYMENT / "Dockerfile").read_text("utf-8")
EXTRAS = re.search(r'^ARG EXTRAS="([\w,]+)"$', DOCKERFILE, re.MULTILINE)[1].split(",")
USER = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)[1]

# In namespaces of its own: the machine's files below a layer that is thrown away.
_LAYER = """
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"; mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
root="$1/root"; mkdir -p "$root/opt/streamrde" "$root/opt/python"
mount --bind "$2" "$root/opt/streamrde"
mount --bind "$BASE_PREFIX" "$root/opt/python"
"""


def can_unshare() -> bool:
    """Whether this user may make namespaces and mount an overlay in them."""
    if os.getuid() != 0 or shutil.which("unshare") is None:
        return False
    layer = "mount -t overlay o -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w /mnt/r"
    script = f"mount -t tmpfs t /mnt && mkdir /mnt/u /mnt/w /mnt/r && {layer}"
    return subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, check=False).returncode == 0


def _closure() -> set[str]:
    """Distributions that `pip install ".[EXTRAS]"` brings."""
    found, waiting = set(), [("streamrde", frozenset(EXTRAS))]
    while waiting:
        name, extras = waiting.pop()
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:
            continue  # for another platform or Python
        found.add(re.sub(r"[-_.]+", "-", name).lower())
        for text in requires:
            one = Requirement(text)
            wanted = one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in {"", *extras})
            if wanted and re.sub(r"[-_.]+", "-", one.name).lower() not in found:
                waiting.append((one.name, frozenset(one.extras)))
    return found


def make_environment(folder: Path) -> Path:
    """Make what is at /opt/streamrde of the image: the package and what it needs with the extras, and no more.

    pip compiles for a minute and a half; here are copies of the files that it installed into this environment.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    # Where the interpreter is may be closed to other users than the one of the tests.
    python = Path("/opt/python/bin", Path(sys.executable).resolve().name)
    for link in (folder / "bin").glob("python*"):
        link.unlink()
        link.symlink_to(python)
    settings = (folder / "pyvenv.cfg").read_text().splitlines()
    lines = [f"home = {python.parent}" if line.startswith("home =") else line for line in settings]
    (folder / "pyvenv.cfg").write_text("\n".join(lines) + "\n")
    (site,) = folder.glob("lib/python*/site-packages")
    for name in _closure():
        for file in distribution(name).files or ():
            source, target = Path(file.locate()), site / file
            if ".." not in file.parts and source.is_file() and "editable" not in file.name:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
    shutil.copytree(ROOT / "streamrde", site / "streamrde", dirs_exist_ok=True)
    command = folder / "bin" / "streamrde"
    command.write_text("#!/opt/streamrde/bin/python\nimport sys\nfrom streamrde.cli import main\nsys.exit(main())\n")
    command.chmod(0o755)
    return folder


def in_layer(folder: Path, environment: Path, script: str, *arguments: str | Path) -> list[str]:
    """Command that runs a shell script as process 1 of namespaces, with the image's files below `$root`.

    The script's further arguments begin with `$3`.
    """
    layer = folder / "layer"
    layer.mkdir(exist_ok=True)
    command = [
        "env",
        f"BASE_PREFIX={sys.base_prefix}",
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "bash",
        "-ec",
        _LAYER + script,
        "layer",
    ]
    return [*command, str(layer), str(environment), *map(str, arguments)]


def instruction(name: str) -> list[str]:
    """The instructions of one name in the Dockerfile, with their lines joined."""
    joined = re.sub(r"\\\n\s*", "", DOCKERFILE)
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)
