"""``make release``: wheel and image of the commit that is checked out, the wheel byte for byte the same.

Both are made of the commit and not of the folder: what is not committed gets into neither.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

from dev.home import PROJECT, LocalRunError


def wheel_of(folder: Path, output: Path, moment: int) -> Path:
    """Build the wheel of a checkout.

    :param folder: the checkout.
    :param output: folder for the wheel.
    :param moment: what its files say that they were written at, in seconds since 1970.
    :raises LocalRunError: if it cannot be built.
    """
    output.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(output)]
    _run(command, folder, "wheel", SOURCE_DATE_EPOCH=str(moment))
    (built,) = output.glob("*.whl")
    return built


def sha256_of(file: Path) -> str:
    """Return the digest of a file, in hex."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def version_of(folder: Path) -> str:
    """Return the project's version."""
    version: str = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["version"]
    return version


def image_of(folder: Path) -> str:
    """Return the name and tag of the image, as the compose file has them."""
    found = re.search(r"^  image: (tidepool-airflow:\S+)$", (folder / "docker-compose.yml").read_text(), re.M)
    assert found is not None
    return found[1]


def reasons_for_a_trial(project: Path, commit: str) -> Iterator[str]:
    """Yield why what is built is no release: what is still to be done for one.

    :param project: the checkout.
    :param commit: what is built.
    """
    version = version_of(project)
    if _git(project, "status", "--porcelain"):
        yield "what is not committed is not in it"
    if f"## {version} (unreleased)" in (project / "CHANGELOG.md").read_text():
        yield f"CHANGELOG.md calls {version} unreleased"
    tagged = _git(project, "tag", "--list", f"v{version}", "--points-at", commit)
    if not tagged:
        yield f"the commit has no tag v{version}"


def build(project: Path, output: Path) -> None:
    """Build the wheel twice, compare, and build the image if a container engine answers.

    :param project: the checkout.
    :param output: folder for the wheel and its digest.
    :raises LocalRunError: if anything cannot be built, or the two wheels differ.
    """
    commit = _git(project, "rev-parse", "HEAD")
    moment = int(_git(project, "log", "-1", "--format=%ct", commit))
    with tempfile.TemporaryDirectory() as scratch:
        checkouts = [Path(scratch) / name for name in ("one", "another")]
        for folder in checkouts:
            unpack(project, commit, folder)
        first, second = (wheel_of(folder, folder / "dist", moment) for folder in checkouts)
        if first.read_bytes() != second.read_bytes():
            raise LocalRunError(
                "Two wheels of one commit differ.",
                remedy="Compare what is in them, and make what differs depend on the commit only.",
                code="wheels-differ",
            )
        output.mkdir(parents=True, exist_ok=True)
        wheel = output / first.name
        wheel.write_bytes(first.read_bytes())
        digest = sha256_of(wheel)
        (output / f"{wheel.name}.sha256").write_text(f"{digest}  {wheel.name}\n")
        print(f"wheel   {wheel.name}, built twice and equal")
        print(f"sha256  {digest}")
        print(f"commit  {commit}")
        _build_image(checkouts[0], commit, moment, wheel)
    for reason in reasons_for_a_trial(project, commit):
        print(f"A trial and no release: {reason}.")


def unpack(project: Path, commit: str, folder: Path) -> None:
    """Write the files of a commit into a folder."""
    command = ["git", "archive", "--format=tar", commit]
    packed = subprocess.run(command, cwd=project, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as files:
        files.extractall(folder, filter="data")


def _build_image(folder: Path, commit: str, moment: int, wheel: Path) -> None:
    """Build the image if a container engine answers, with the wheel in it that is released.

    :raises LocalRunError: if it cannot be built, or has another wheel.
    """
    image = image_of(folder)
    try:
        answers = subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    except OSError:
        answers = False
    if not answers:
        print(f"image   {image} was not built: no container engine answers here")
        return
    labels = {"version": version_of(folder), "revision": commit}
    named = [f"--label=org.opencontainers.image.{name}={value}" for name, value in labels.items()]
    at = f"--build-arg=SOURCE_DATE_EPOCH={moment}"
    _run(["docker", "build", "--tag", image, *named, at, "."], folder, "image")
    held = f"/opt/tidepool/wheel/{wheel.name}"
    ask = ["docker", "run", "--rm", "--network=none", "--entrypoint=sha256sum", image, held]
    if _run(ask, folder, "image").split()[:1] != [sha256_of(wheel)]:
        raise LocalRunError(
            f"The image {image} holds another wheel than the one that is built beside it.",
            remedy="Compare what is in them, and make what differs depend on the commit only.",
            code="wheels-differ",
        )
    print(f"image   {image}, with the same wheel in it")


def _git(project: Path, *arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=project, check=True, capture_output=True, text=True).stdout.strip()


def _run(command: Sequence[str], folder: Path, what: str, **variables: str) -> str:
    """Run a program in a folder and return what it printed; that is shown only if it fails."""
    environment = {**os.environ, **variables}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.stderr.write(ended.stdout + ended.stderr)
        raise LocalRunError(f"The {what} cannot be built.", remedy="Its output says why.", code=f"no-{what}")
    return ended.stdout


def main() -> int:
    """Build, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dev.release", description=__doc__)
    parser.add_argument("--output", type=Path, default=PROJECT / "dist", help="folder for the wheel")
    try:
        build(PROJECT, parser.parse_args().output)
    except LocalRunError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
