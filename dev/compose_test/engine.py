"""A container engine with Compose, by its command line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dev.home import PROJECT, LocalRunError

COMMAND_SECONDS = 1800.0
"""How long one command may take; a build on a slow machine takes longest."""

POLL_SECONDS = 1.0


class Engine:
    """The engine that ``docker`` speaks to.

    :param log: file to which every command and what it printed is appended.
    :raises LocalRunError: if there is no such program, no engine, or no Compose.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        if shutil.which("docker") is None:
            raise LocalRunError(
                "There is no program docker.",
                remedy="Install a container engine with Compose, or set PATH.",
                code="no-engine",
            )
        for what, command in (
            ("a container engine", ("version", "--format", "{{.Server.Version}}")),
            ("Compose", ("compose", "version", "--short")),
        ):
            if self.status(*command):
                raise LocalRunError(
                    f"docker reaches no {what.removeprefix('a ')}.",
                    remedy=f"Start or install {what}, or set DOCKER_HOST; {log} has its message.",
                    code="no-engine",
                )
        self.version = self.docker("version", "--format", "{{.Server.Version}}").strip()
        self.compose_version = self.docker("compose", "version", "--short").strip()
        self.processors = int(self.docker("info", "--format", "{{.NCPU}}"))

    def docker(self, *arguments: str, given: str | None = None) -> str:
        """Run a command and return what it printed.

        :param given: its standard input.
        :raises LocalRunError: if it fails.
        """
        return self.run("docker", *arguments, given=given)

    def status(self, *arguments: str) -> int:
        """Run a command that may fail, and return its exit status."""
        return self._run(("docker", *arguments), None).returncode

    def shell(self, script: str, folder: Path) -> str:
        """Run a script of the manual's, which stops at its first command that fails.

        :param script: the script.
        :param folder: where it runs.
        :return: what it printed.
        :raises LocalRunError: if it fails.
        """
        ended = self._run(("sh", "-ec", script), None, folder)
        if ended.returncode:
            raise LocalRunError(
                f"The manual's commands ended with {ended.returncode}.",
                remedy=f"{self._log} has their message.",
                code="engine",
            )
        return ended.stdout

    def run(self, program: str, *arguments: str, given: str | None = None) -> str:
        """Run a program and return what it printed.

        :param given: its standard input.
        :raises LocalRunError: if it fails.
        """
        ended = self._run((program, *arguments), given)
        if ended.returncode:
            raise LocalRunError(
                f"{' '.join([program, *named(arguments)])} ended with {ended.returncode}.",
                remedy=f"{self._log} has its message.",
                code="engine",
            )
        return ended.stdout

    def complaints(self, program: str, *arguments: str) -> tuple[int, list[str]]:
        """Run a program of the project's that may fail; return its exit status and lines of complaint."""
        ended = self._run((program, *arguments), None, PROJECT)
        return ended.returncode, ended.stderr.splitlines()

    def untagged(self) -> set[str]:
        """Return the ids of the images without a tag."""
        return set(self.docker("images", "--quiet", "--no-trunc", "--filter", "dangling=true").split())

    def image(self, name: str) -> str | None:
        """Return the id of an image, or nothing if this machine does not have it."""
        if self.status("image", "inspect", name):
            return None
        found: str = json.loads(self.docker("image", "inspect", name))[0]["Id"]
        return found

    def left_of(self, project: str) -> list[str]:
        """Return the containers, networks and volumes of a Compose project that are there."""
        label = f"label=com.docker.compose.project={project}"
        kinds = (("ps", "--all"), ("network", "ls"), ("volume", "ls"))
        return [name for kind in kinds for name in self.docker(*kind, "--quiet", "--filter", label).split()]

    def _run(
        self, command: Sequence[str], given: str | None, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        with self._log.open("a") as log:
            log.write(f"\n$ {' '.join(command)}\n")
        ended = subprocess.run(
            command,
            check=False,
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            cwd=folder,
            timeout=COMMAND_SECONDS,
        )
        with self._log.open("a") as log:
            log.write(ended.stdout[-100_000:] + ended.stderr[-100_000:])
            log.write(f"(ended with {ended.returncode})\n")
        return ended


def named(arguments: Sequence[str]) -> list[str]:
    """Return the words of a command that say what it does, without its options and scripts."""
    return [word for word in arguments if re.fullmatch(r"[a-z][a-z-]*", word)][:4]


def wait_until(is_so: Callable[[], bool], what: str, within: float) -> float:
    """Wait until something is so.

    :param is_so: asked about once a second.
    :param what: the same in words, for the message.
    :param within: how long to wait, in seconds.
    :return: how long it took, in seconds.
    :raises LocalRunError: if it takes longer.
    """
    began = time.monotonic()
    while not is_so():
        if time.monotonic() - began > within:
            raise LocalRunError(
                f"After {within:.0f} s, this is still not so: {what}.",
                remedy="The containers' logs say why.",
                code="not-ready",
            )
        time.sleep(POLL_SECONDS)
    return time.monotonic() - began
