"""The Helm chart.

Where Helm is (in PATH, or named by VQTOK_HELM) it is rendered, and has to give the manifests in
docs/deploy/helm/rendered; `VQTOK_RENDER=1` writes them anew. Those are checked everywhere.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import vqtok
from vqtok.errors import ConfigError
from vqtok.serve.layers import environment, file_layer, resolve
from vqtok.serve.settings import ServeSettings

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "docs/deploy/helm/vqtok"
RENDERED = ROOT / "docs/deploy/helm/rendered"
HELM = os.environ.get("VQTOK_HELM") or shutil.which("helm")

SETS = {"default": [], "everything": ["-f", str(RENDERED / "everything.values.yaml")]}
SOURCES = re.compile(r"\A# Rendered by Helm of sources with sha256 (\w{64})\n")


def chart_print() -> str:
    """A hash of all that a rendering depends on."""
    digest = hashlib.sha256()
    for path in [*sorted(CHART.rglob("*")), RENDERED / "everything.values.yaml"]:
        if path.is_file() and path.suffix != ".md":
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert HELM is not None
    return subprocess.run([HELM, *arguments], capture_output=True, text=True)


needs_helm = pytest.mark.skipif(HELM is None, reason="Helm is not installed")


@needs_helm
@pytest.mark.parametrize("name", SETS)
def test_rendering_gives_what_is_committed(name: str) -> None:
    done = helm("template", "tokens", str(CHART), *SETS[name])
    assert done.returncode == 0, done.stderr
    text = f"# Rendered by Helm of sources with sha256 {chart_print()}\n{done.stdout}"
    path = RENDERED / f"{name}.yaml"
    if os.environ.get("VQTOK_RENDER"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


@needs_helm
def test_helm_has_no_complaints() -> None:
    done = helm("lint", "--strict", str(CHART), "--quiet")
    assert done.returncode == 0, done.stdout


@needs_helm
@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (
            "terminationGracePeriodSeconds=37",
            "terminationGracePeriodSeconds is 37; it must be more than preStopSeconds + "
            "settings.drain_delay + settings.timeout = 37, or requests are cut off",
        ),
        (
            "settings.port=9000",
            "settings.port: the chart sets that itself; see its values models, service and auth",
        ),
        ("ingress.enabled=true", "ingress.host is the name that the ingress answers to"),
        (
            "autoscaling.enabled=true,resources.requests=null",
            "autoscaling.targetCPUUtilizationPercentage is a share of resources.requests.cpu, "
            "which is not set; set it, or the percentage to null",
        ),
        (
            "autoscaling.enabled=true,autoscaling.targetCPUUtilizationPercentage=null",
            "autoscaling has nothing to go by: set targetCPUUtilizationPercentage or metrics",
        ),
        ("replica=3", "additional properties 'replica' not allowed"),
        ("settings.timeout=0", "exclusiveMinimum: got 0, want 0"),
        ("models=null", "missing property 'models'"),
    ],
)
def test_values_that_cannot_be_are_refused(value: str, complaint: str) -> None:
    done = helm("template", "tokens", str(CHART), "--set", value)
    assert done.returncode != 0
    assert complaint in done.stderr


@needs_helm
def test_autoscaling_without_the_cpu() -> None:
    values = ("autoscaling.enabled=true", "autoscaling.targetCPUUtilizationPercentage=null")
    sets = [word for value in values for word in ("--set", value)]
    metrics = ["--set-json", 'autoscaling.metrics=[{"type": "Pods"}]', "--set-json", "resources={}"]
    done = helm("template", "tokens", str(CHART), *sets, *metrics)
    assert done.returncode == 0, done.stderr
    found = {one["kind"]: one for one in yaml.safe_load_all(done.stdout) if one}
    assert found["HorizontalPodAutoscaler"]["spec"]["metrics"] == [{"type": "Pods"}]


@pytest.mark.parametrize("name", SETS)
def test_what_is_committed_is_of_this_chart(name: str) -> None:
    found = SOURCES.match((RENDERED / f"{name}.yaml").read_text(encoding="utf-8"))
    assert found and found[1] == chart_print(), (
        "the chart was changed: render it anew where Helm is, with VQTOK_RENDER=1"
    )


def objects(name: str) -> dict[str, Any]:
    """The rendered objects by kind."""
    text = (RENDERED / f"{name}.yaml").read_text(encoding="utf-8")
    return {one["kind"]: one for one in yaml.safe_load_all(text) if one}


def pod(name: str) -> dict[str, Any]:
    found: dict[str, Any] = objects(name)["Deployment"]["spec"]["template"]["spec"]
    return found


def container(name: str) -> dict[str, Any]:
    (found,) = pod(name)["containers"]
    return dict(found)


def settings(name: str) -> ServeSettings:
    text = objects(name)["ConfigMap"]["data"]["serve.yaml"]
    return resolve([file_layer(yaml.safe_load(text), "serve.yaml")])


def test_the_first_model_stays_the_first() -> None:
    assert [*settings("default").models] == ["photo-tiny"]
    models = settings("everything").models
    assert [*models] == ["small", "large"]
    assert (models["small"].size, models["large"].precision) == (128, "bf16")


def test_settings_arrive_as_they_were_given() -> None:
    given = settings("everything")
    assert (given.max_pixels, given.max_body, given.timeout) == (100_000_000, 128_000_000, 12.5)
    assert given.devices == "all"  # as the pod has GPUs
    assert settings("default").devices is None


@pytest.mark.parametrize("name", SETS)
def test_a_pod_has_time_to_drain(name: str) -> None:
    given = settings(name)
    sleep = container(name).get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
    slept = float(sleep[1]) if sleep else 0.0
    assert pod(name)["terminationGracePeriodSeconds"] > slept + given.drain_delay + given.timeout


@pytest.mark.parametrize("name", SETS)
def test_probes_ask_what_the_server_answers(name: str) -> None:
    one = container(name)
    kinds = ("startupProbe", "readinessProbe", "livenessProbe")
    paths = [one[kind]["httpGet"]["path"] for kind in kinds]
    assert paths == ["/startup", "/ready", "/live"]
    assert one["ports"][0]["containerPort"] == 8000  # as in the Dockerfile
    assert one["args"] == ["--config", "/etc/vqtok/serve.yaml"]


@pytest.mark.parametrize("name", SETS)
def test_a_pod_may_do_little(name: str) -> None:
    assert pod(name)["securityContext"]["runAsNonRoot"] is True
    assert pod(name)["securityContext"]["runAsUser"] == 10001  # as in the Dockerfile
    assert pod(name)["automountServiceAccountToken"] is False
    assert pod(name)["enableServiceLinks"] is False
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {one["mountPath"]: one.get("readOnly") for one in container(name)["volumeMounts"]}
    assert [path for path, read_only in mounts.items() if not read_only] == ["/tmp"]


def test_a_service_of_the_same_name_is_what_links_are_off_for() -> None:
    with pytest.raises(ConfigError, match=r"^VQTOK_SERVE_PORT is what Kubernetes sets for a Serv"):
        environment({"VQTOK_SERVE_PORT": "tcp://10.0.0.1:80"})


def test_everything_is_where_it_belongs() -> None:
    found = objects("everything")
    one = container("everything")
    assert one["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert one["env"][1]["valueFrom"]["secretKeyRef"] == {"name": "tokens-key", "key": "api-key"}
    assert pod("everything")["volumes"][2]["persistentVolumeClaim"]["claimName"] == "tokenizers"
    assert "replicas" not in found["Deployment"]["spec"]
    assert found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "tokens-vqtok"
    assert found["ServiceMonitor"]["spec"]["endpoints"][0]["path"] == "/metrics"
    selector = found["Service"]["spec"]["selector"]
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert selector.items() <= labels.items()
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == selector
    assert [*objects("default")] == ["PodDisruptionBudget", "ConfigMap", "Service", "Deployment"]


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("version", ["1.25", "1.34", "1.37"])
def test_objects_follow_the_schemas_of_kubernetes(name: str, version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    for kind, one in objects(name).items():
        if kind != "ServiceMonitor":  # of an operator, not of Kubernetes
            validate.validate(one, version, strict=True)


def test_the_chart_is_of_this_version() -> None:
    told = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert told["appVersion"] == vqtok.__version__
