"""``make helm-test`` itself: it finds each breach of the rules for pods, and says what it lacks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import PROJECT
from tests.deployment import helm

RESTRICTED: dict[str, Any] = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "volumes": [{"name": "logs", "emptyDir": {}}],
    "initContainers": [],
    "containers": [
        {
            "name": "it",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            "ports": [{"containerPort": 8080}],
        }
    ],
}
"""A pod that keeps the rules."""


def changed(path: str, value: object) -> dict[str, Any]:
    """Return that pod with one value of its own; ``pod.`` and ``it.`` begin the paths of both contexts."""
    spec = deepcopy(RESTRICTED)
    whose, _, name = path.partition(".")
    below = {"pod": spec["securityContext"], "it": spec["containers"][0]["securityContext"]}.get(whose, spec)
    below[name or whose] = value
    return spec


def test_a_restricted_pod_keeps_the_rules() -> None:
    assert helm.violations(RESTRICTED) == []
    assert helm.violations(changed("it.capabilities", {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]})) == []


@pytest.mark.parametrize(
    ("path", "value", "what"),
    [
        ("hostNetwork", True, "hostNetwork is true"),
        ("hostPID", True, "hostPID is true"),
        ("hostIPC", True, "hostIPC is true"),
        ("volumes", [{"name": "disk", "hostPath": {"path": "/"}}], "volume disk: hostPath"),
        ("pod.sysctls", [{"name": "kernel.msgmax", "value": "1"}], "sysctl kernel.msgmax"),
        ("pod.runAsUser", 0, "the pod: runAsUser is 0"),
        ("it.runAsUser", 0, "it: runAsUser is 0"),
        ("pod.windowsOptions", {"hostProcess": True}, "the pod: hostProcess is true"),
        ("it.appArmorProfile", {"type": "Unconfined"}, "it: appArmorProfile"),
        ("it.seLinuxOptions", {"type": "spc_t"}, "it: seLinuxOptions"),
        ("pod.seLinuxOptions", {"role": "sysadm_r"}, "the pod: seLinuxOptions"),
        ("it.privileged", True, "it: privileged is true"),
        ("it.allowPrivilegeEscalation", None, "it: allowPrivilegeEscalation is not false"),
        ("pod.runAsNonRoot", None, "it: runAsNonRoot is not true"),
        ("it.runAsNonRoot", False, "it: runAsNonRoot is not true"),
        ("pod.seccompProfile", None, "it: seccompProfile is not RuntimeDefault"),
        ("it.seccompProfile", {"type": "Unconfined"}, "it: seccompProfile is not RuntimeDefault"),
        ("it.capabilities", {"drop": ["CHOWN"]}, "it: capabilities: ALL are not dropped"),
        ("it.capabilities", {"drop": ["ALL"], "add": ["SYS_ADMIN"]}, "it: capabilities are added"),
        ("it.procMount", "Unmasked", "it: procMount"),
    ],
)
def test_each_breach_is_named(path: str, value: object, what: str) -> None:
    assert helm.violations(changed(path, value)) == [what]


def test_a_port_of_the_node_is_a_breach_of_a_container_that_comes_first() -> None:
    spec = deepcopy(RESTRICTED)
    first = deepcopy(spec["containers"][0]) | {"name": "first", "ports": [{"hostPort": 80}]}
    spec["initContainers"] = [first]

    assert helm.violations(spec) == ["first: hostPort"]


def test_pods_are_found_wherever_they_are_made() -> None:
    template = {"spec": RESTRICTED}
    objects = [
        {"kind": "Deployment", "metadata": {"name": "a"}, "spec": {"template": template}},
        {
            "kind": "CronJob",
            "metadata": {"name": "b"},
            "spec": {"jobTemplate": {"spec": {"template": template}}},
        },
        {"kind": "Pod", "metadata": {"name": "c"}, "spec": RESTRICTED},
        {"kind": "Service", "metadata": {"name": "d"}, "spec": {"ports": []}},
        {"kind": "Secret", "metadata": {"name": "e"}},
        {
            "kind": "ConfigMap",
            "metadata": {"name": "f"},
            "data": {"airflow.cfg": "[core]", "pod_template_file.yaml": yaml.safe_dump(template)},
        },
    ]

    assert [name for name, _ in helm.pods_of(objects)] == [
        "Deployment/a",
        "CronJob/b",
        "Pod/c",
        "Pod of a task",
    ]
    assert all(spec == RESTRICTED for _, spec in helm.pods_of(objects))


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """A chart of a few keys."""
    folder = tmp_path / "chart"
    folder.mkdir()
    (folder / "Chart.yaml").write_text("version: 9.9.9\n")
    (folder / "values.yaml").write_text("job: {enabled: true, name: x}\nother: {enabled: false}\n")
    old = {"description": "Deprecated, use another one."}
    schema = {"properties": {"job": {"properties": {"name": old, "enabled": {"description": "Whether"}}}}}
    (folder / "values.schema.json").write_text(json.dumps(schema))
    return folder


def test_facts_are_the_charts_own(chart: Path) -> None:
    facts = helm.facts_of(chart)

    assert facts == {
        "version": "9.9.9",
        "on": ["job.enabled"],
        "deprecated": ["job.name"],
        "keys": {"job": {"enabled": None, "name": None}, "other": {"enabled": None}},
    }
    assert helm.differences(facts, facts) == []
    (stale,) = helm.differences(facts | {"on": []}, facts)
    assert "`on`" in stale


def test_what_is_noted_is_read_again(chart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helm, "FACTS", tmp_path / "facts.json")

    helm.note(helm.facts_of(chart), {"license": "one", "version": "1"})

    assert json.loads(helm.FACTS.read_text()) == {"license": "one"} | helm.facts_of(chart)


def _program(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.deployment.helm", *map(str, arguments)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


def test_what_is_missing_is_named_in_one_line(chart: Path, tmp_path: Path) -> None:
    absent, broken = tmp_path / "absent", _program(tmp_path, "broken", "echo 'no such host' >&2; exit 1")
    helm_4 = _program(tmp_path, "helm", "echo '{kind: Secret, metadata: {name: it}}'")
    cases: list[tuple[tuple[object, ...], Callable[[str], bool]]] = [
        (("--helm", absent), lambda line: "there is no" in line and "HELM" in line),
        (("--helm", broken), lambda line: "(no such host)" in line and "CHART" in line),
        (("--chart", tmp_path), lambda line: "no chart in CHART" in line),
        (
            ("--helm", helm_4, "--chart", chart, "--validate", absent),
            lambda line: "KUBERNETES_VALIDATE" in line,
        ),
    ]
    for arguments, is_said in cases:
        ended = _run(*arguments)
        assert ended.returncode == 2, ended.stderr
        (line,) = ended.stderr.splitlines()
        assert line.startswith("helm-test: ")
        assert is_said(line)


def test_all_that_is_wrong_is_told(chart: Path, tmp_path: Path) -> None:
    pod = {"kind": "Pod", "metadata": {"name": "it"}, "spec": changed("hostPID", True)}
    (tmp_path / "rendered.json").write_text(json.dumps(pod))
    helm_4 = _program(tmp_path, "helm", f"cat {tmp_path / 'rendered.json'}")
    validate = _program(
        tmp_path, "validate", '[ "$1 $2 $#" != "--strict --quiet 3" ] || { echo ERROR; exit 1; }'
    )

    ended = _run("--helm", helm_4, "--chart", chart, "--validate", validate)

    assert ended.returncode == 1
    told = ended.stderr.splitlines()
    assert [line for line in told if "is not what the chart has" in line]
    assert told[-3:] == [
        "helm-test: ERROR",
        "helm-test: Pod/it: hostPID is true",
        "helm-test: Pod/it: it has no limits",
    ]
    assert "Pod/it" in ended.stdout
