"""``make helm-test``: what the official chart makes of deploy/helm-values.yaml, checked without a cluster.

Every object is validated strictly against the schemas of Kubernetes, and every pod against the restricted Pod
Security rules. The facts about the chart that the tests compare with where there is no chart
(``tests/deployment/chart-keys.json``) are compared with the chart itself.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests import PROJECT

Yaml = dict[str, Any]

VALUES = PROJECT / "deploy" / "helm-values.yaml"
FACTS = PROJECT / "tests" / "deployment" / "chart-keys.json"

REPOSITORY = "https://airflow.apache.org"
"""Where the official chart is published."""

OLDEST_KUBERNETES = "1.30"
"""The oldest version that the chart supports; the newest one that has schemas is the other that counts."""

_VOLUMES = "configMap csi downwardAPI emptyDir ephemeral persistentVolumeClaim projected secret"
VOLUMES = frozenset(_VOLUMES.split())
"""Kinds of volumes that a restricted pod may have."""

SECCOMP = ("RuntimeDefault", "Localhost")

_SYSCTLS = """
kernel.shm_rmid_forced net.ipv4.ip_local_port_range net.ipv4.ip_local_reserved_ports
net.ipv4.ip_unprivileged_port_start net.ipv4.ping_group_range net.ipv4.tcp_fin_timeout
net.ipv4.tcp_keepalive_intvl net.ipv4.tcp_keepalive_probes net.ipv4.tcp_keepalive_time net.ipv4.tcp_rmem
net.ipv4.tcp_syncookies net.ipv4.tcp_wmem
"""
SYSCTLS = frozenset(_SYSCTLS.split())
"""Kernel parameters that a restricted pod may set."""

SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")


class MissingToolError(Exception):
    """A program, or the chart, is not there; the text says what to do."""


# ---------------------------------------------------------------- the pods


def pods_of(objects: Sequence[Yaml]) -> Iterator[tuple[str, Yaml]]:
    """Yield each pod that the objects would make: its name and its specification.

    The KubernetesExecutor makes the tasks' pods of a template, which lies in a ConfigMap.
    """
    for each in objects:
        kind, name, spec = each["kind"], each["metadata"]["name"], each.get("spec") or {}
        if kind == "Pod":
            yield f"{kind}/{name}", spec
        elif kind == "CronJob":
            yield f"{kind}/{name}", spec["jobTemplate"]["spec"]["template"]["spec"]
        elif "template" in spec:
            yield f"{kind}/{name}", spec["template"]["spec"]
    for template in pod_templates(objects):
        yield "Pod of a task", template["spec"]


def pod_templates(objects: Sequence[Yaml]) -> list[Yaml]:
    """Return the pods that the KubernetesExecutor starts from."""
    return [
        yaml.safe_load(text)
        for each in objects
        if each["kind"] == "ConfigMap"
        for name, text in (each.get("data") or {}).items()
        if name == "pod_template_file.yaml"
    ]


def containers_of(spec: Yaml) -> list[Yaml]:
    """Return all containers of a pod, in the order in which they start."""
    names = ("initContainers", "containers", "ephemeralContainers")
    return [container for name in names for container in spec.get(name) or ()]


def violations(spec: Yaml) -> list[str]:
    """Return how a pod breaks the restricted Pod Security rules, as they are in Kubernetes 1.34.

    :param spec: the pod's specification.
    """
    pod = spec.get("securityContext") or {}
    found = [f"{name} is true" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    for volume in spec.get("volumes") or ():
        kinds = volume.keys() - {"name"}
        found += [f"volume {volume['name']}: {kind}" for kind in sorted(kinds - VOLUMES)]
    found += [f"sysctl {each['name']}" for each in pod.get("sysctls") or () if each["name"] not in SYSCTLS]
    found += _of_either(pod, "the pod")
    for container in containers_of(spec):
        own = container.get("securityContext") or {}
        name = container["name"]
        found += [f"{name}: {what}" for what in _of_container(container, own, pod)]
        found += _of_either(own, name)
    return found


def _of_either(context: Yaml, name: str) -> Iterator[str]:
    """Yield what neither a pod's nor a container's security context may say."""
    if context.get("runAsUser") == 0:
        yield f"{name}: runAsUser is 0"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield f"{name}: hostProcess is true"
    if (context.get("appArmorProfile") or {}).get("type", "RuntimeDefault") not in SECCOMP:
        yield f"{name}: appArmorProfile"
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type", "") not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{name}: seLinuxOptions"


def _of_container(container: Yaml, own: Yaml, pod: Yaml) -> Iterator[str]:
    """Yield how one container breaks the rules."""
    capabilities = own.get("capabilities") or {}
    seccomp = own.get("seccompProfile") or pod.get("seccompProfile") or {}
    if own.get("privileged"):
        yield "privileged is true"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot is not true"
    if seccomp.get("type") not in SECCOMP:
        yield "seccompProfile is not RuntimeDefault"
    if "ALL" not in (capabilities.get("drop") or ()):
        yield "capabilities: ALL are not dropped"
    if set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}:
        yield "capabilities are added"
    if own.get("procMount", "Default") != "Default":
        yield "procMount"
    if any(port.get("hostPort") for port in container.get("ports") or ()):
        yield "hostPort"


# ---------------------------------------------------------------- the chart


def facts_of(chart: Path) -> Yaml:
    """Return the facts about a chart that the tests know: names and switches, no text of its own.

    :param chart: its folder.
    """
    values = yaml.safe_load((chart / "values.yaml").read_text())
    schema = json.loads((chart / "values.schema.json").read_text())
    told = {name: str(each.get("description", "")) for name, each in _described(schema)}
    return {
        "version": yaml.safe_load((chart / "Chart.yaml").read_text())["version"],
        "on": sorted(f"{name}.enabled" for name, each in values.items() if _is_on(each)),
        "deprecated": sorted(name for name, text in told.items() if re.search("deprecated", text, re.I)),
        "keys": _keys(values),
    }


def _described(schema: Yaml, above: str = "") -> Iterator[tuple[str, Yaml]]:
    for name, each in (schema.get("properties") or {}).items():
        yield f"{above}{name}", each
        yield from _described(each, f"{above}{name}.")


def _is_on(value: object) -> bool:
    return isinstance(value, dict) and value.get("enabled") is True


def _keys(value: Mapping[str, Any]) -> Yaml:
    return {name: _keys(each) if isinstance(each, dict) else None for name, each in value.items()}


def differences(known: Mapping[str, Any], chart: Mapping[str, Any]) -> list[str]:
    """Return which noted facts are not those of the chart."""
    return [
        f"{FACTS.relative_to(PROJECT)}: `{name}` is not what the chart has; write it anew with --note"
        for name, value in chart.items()
        if known.get(name) != value
    ]


def note(facts: Yaml, known: Yaml) -> None:
    """Write the facts about a chart where the tests look for them, one a line where there are many."""
    lines = []
    for name, value in (known | facts).items():
        text = json.dumps(value)
        if name == "keys":
            inner = ",\n".join(f"  {json.dumps(key)}: {json.dumps(below)}" for key, below in value.items())
            text = f"{{\n{inner}\n }}"
        elif isinstance(value, list):
            text = "[\n" + ",\n".join(f"  {json.dumps(each)}" for each in value) + "\n ]"
        lines.append(f" {json.dumps(name)}: {text}")
    FACTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")


# ---------------------------------------------------------------- the programs


def run(command: Sequence[str], variable: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end.

    :param command: the program and its arguments.
    :param variable: of ``make helm-test``, which names the program.
    :raises MissingToolError: if it is not there.
    """
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        raise MissingToolError(
            f"there is no {command[0]}: install it, or set {variable} to its path"
        ) from None


def output_of(command: Sequence[str], remedy: str) -> str:
    """Return what helm prints.

    :param command: the program and its arguments.
    :param remedy: what to do if it fails.
    :raises MissingToolError: with that, and the last line that the program has printed.
    """
    ended = run(command, "HELM")
    if ended.returncode:
        last = (ended.stderr or ended.stdout).strip().rpartition("\n")[2]
        raise MissingToolError(f"{command[0]} has failed ({last}): {remedy}")
    return ended.stdout


def pulled(helm: str, version: str, folder: Path) -> Path:
    """Download the official chart, and return its folder."""
    command = [helm, "pull", "airflow", "--repo", REPOSITORY, "--version", version, "--untar"]
    output_of([*command, "--untardir", str(folder)], "set CHART to a folder with the official chart")
    return folder / "airflow"


def rendered(helm: str, chart: Path) -> list[Yaml]:
    """Return the objects that the chart makes of our values."""
    command = [helm, "template", "airflow", str(chart), "--values", str(VALUES), "--namespace", "tidepool"]
    text = output_of(command, "correct deploy/helm-values.yaml, or the chart in CHART")
    return [each for each in yaml.safe_load_all(text) if each]


def not_valid(validate: Sequence[str], objects: Sequence[Yaml], folder: Path) -> list[str]:
    """Return what is wrong with the objects by the schemas of Kubernetes, a line each.

    :param validate: the program ``kubernetes-validate``.
    :param objects: what is rendered, and the pods of the tasks.
    :param folder: for the files that are validated.
    """
    file = folder / "rendered.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    found = []
    for version in ([], ["--kubernetes-version", OLDEST_KUBERNETES]):
        ended = run([*validate, "--strict", "--quiet", *version, str(file)], "KUBERNETES_VALIDATE")
        if ended.returncode:
            found += (ended.stdout + ended.stderr).strip().splitlines()
    return found


def check(helm: str, chart: Path, validate: Sequence[str], folder: Path) -> list[str]:
    """Render our values, print what became of them, and return everything that is wrong."""
    known = json.loads(FACTS.read_text())
    wrong = differences(known, facts_of(chart))
    objects = rendered(helm, chart)
    wrong += not_valid(validate, [*objects, *pod_templates(objects)], folder)
    containers = 0
    print(f"{'pod':<42}containers  restricted")
    for name, spec in pods_of(objects):
        broken = violations(spec)
        number = len(containers_of(spec))
        containers += number
        print(f"{name:<42}{number:>10}  {'no' if broken else 'yes'}")
        wrong += [f"{name}: {what}" for what in broken]
        wrong += [
            f"{name}: {each['name']} has no limits"
            for each in containers_of(spec)
            if not (each.get("resources") or {}).get("limits")
        ]
    print(
        f"chart {known['version']}: {len(objects)} objects and {len(pod_templates(objects))} template of a "
        f"task's pod, {containers} containers"
    )
    return wrong


def main() -> int:
    """Check, and return the exit code: 1 if anything is wrong, 2 if a program or the chart is not there."""
    parser = argparse.ArgumentParser(prog="python -m tests.deployment.helm", description=__doc__)
    parser.add_argument("--helm", default="helm", help="the program")
    parser.add_argument("--chart", type=Path, help="folder with the official chart; downloaded if not given")
    parser.add_argument("--validate", default="kubernetes-validate", help="the program, with its arguments")
    parser.add_argument("--note", action="store_true", help="write the facts about the chart that tests know")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        try:
            known = json.loads(FACTS.read_text())
            chart = options.chart or pulled(options.helm, known["version"], folder)
            if not (chart / "Chart.yaml").is_file():
                raise MissingToolError("there is no chart in CHART: set it to the chart's folder")
            if options.note:
                note(facts_of(chart), known)
            wrong = check(options.helm, chart, options.validate.split(), folder)
        except MissingToolError as error:
            print(f"helm-test: {error}", file=sys.stderr)
            return 2
    for what in wrong:
        print(f"helm-test: {what}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
