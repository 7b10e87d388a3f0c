"""The images that the stack is made of, or small stand-ins for them where no registry can be reached.

A stand-in has Debian's packages in it, and the users, folders and entry of the image that it stands for.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dev.compose_test.engine import Engine
from dev.home import PROJECT, LocalRunError

RECIPES = Path(__file__).parent / "stand_ins"
"""A Dockerfile for each stand-in, named as the image that it stands for."""

DEBIAN = "tidepool-stand-in/debian"
SUITE = "bookworm"

CERTIFICATES = "pip-certificates.crt"

PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "cert", "timeout")
"""What a container needs of this machine's pip to reach the same packages."""


def base_images() -> list[str]:
    """Return the images that the stack is made of: that of the Dockerfile, and others' services."""
    recipe = (PROJECT / "Dockerfile").read_text()
    services = (PROJECT / "docker-compose.yml").read_text()
    return [
        *re.findall(r"^FROM (\S+/\S+)", recipe, re.MULTILINE),
        *re.findall(r"^    image: (\S+)$", services, re.MULTILINE),
    ]


@contextmanager
def available(
    engine: Engine, images: Sequence[str], folder: Path, say: Callable[[str], None]
) -> Iterator[str]:
    """Make images available for the length of a ``with`` block.

    Those that are there are used, else they are pulled. Where that fails, stand-ins have their names until
    the block ends, and stay under names of their own, so that the next time is faster.

    :param engine: where they are needed.
    :param images: their names.
    :param folder: for what stand-ins are made of.
    :param say: told what takes long.
    :return: what they are, in words.
    :raises LocalRunError: if stand-ins are needed and cannot be made.
    """

    def absent() -> list[str]:
        return [name for name in images if engine.image(name) in (None, engine.image(stand_in_for(name)))]

    # Where one cannot be pulled, the others need not be tried.
    all(engine.status("pull", "--quiet", name) == 0 for name in absent())
    if missing := absent():
        say("no registry can be reached: small stand-ins take the place of " + ", ".join(missing))
        for name in missing:
            if engine.image(stand_in_for(name)) is None:
                _make(engine, stand_in_for(name), folder)
            engine.docker("tag", stand_in_for(name), name)
    try:
        yield f"stand-ins for {', '.join(missing)}" if missing else "those of the registry"
    finally:
        for name in missing:
            engine.status("rmi", name)


def stand_in_for(image: str) -> str:
    """Return the name of an image's stand-in, of the same version."""
    return f"tidepool-stand-in/{image.rpartition('/')[2]}"


def pip_configuration() -> tuple[str, Path | None]:
    """Return a configuration for pip in a container, and the file of certificates that it names.

    Folders of this machine are left out, which a container does not have.
    """
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    lines, certificates = ["[global]"], None
    found: dict[str, str] = {}
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        found[name.rpartition(".")[2]] = str(ast.literal_eval(value))
    for name in PIP_SETTINGS:
        kept = [word for word in found.get(name, "").split() if not word.startswith("file:")]
        if name == "cert" and kept:
            certificates, kept = Path(kept[0]), [f"/etc/{CERTIFICATES}"]
        if kept:
            lines.append(f"{name} = {' '.join(kept)}")
    return "\n".join(lines) + "\n", certificates


def _make(engine: Engine, name: str, folder: Path) -> None:
    """Build a stand-in, on a Debian that is made first if it is not there."""
    if engine.image(DEBIAN) is None:
        _make_debian(engine, folder / "debian")
    context = folder / "context"
    (context / "pip").mkdir(parents=True, exist_ok=True)
    configuration, certificates = pip_configuration()
    (context / "pip" / "pip.conf").write_text(configuration)
    if certificates is not None:
        shutil.copy(certificates, context / "pip" / CERTIFICATES)
    what, _, version = name.rpartition("/")[2].partition(":")
    recipe = RECIPES / f"{what}.Dockerfile"
    options = ("--quiet", "--tag", name, "--file", str(recipe), "--build-arg", f"VERSION={version}")
    engine.docker("build", *options, str(context))


def _make_debian(engine: Engine, folder: Path) -> None:
    if shutil.which("debootstrap") is None:
        raise LocalRunError(
            "No registry can be reached, and there is no debootstrap to make stand-ins of its images.",
            remedy="Load the images that are named, or install debootstrap and run this as root.",
            code="no-images",
        )
    shutil.rmtree(folder, ignore_errors=True)
    packed = folder.with_suffix(".tar")
    try:
        engine.run("debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, str(folder))
        engine.run("tar", "-C", str(folder), "-cf", str(packed), ".")
        engine.docker("import", str(packed), DEBIAN)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        packed.unlink(missing_ok=True)
