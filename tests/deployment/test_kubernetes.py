"""Kubernetes' manifests: valid by its schemas, restricted, and true to the configuration beside them."""

import itertools
import shutil
import subprocess

import pytest
import yaml
from deployment.image import DEPLOYMENT, USER

from streamrde.config import RunConfig
from streamrde.disk import read_toml

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")

KUBERNETES = DEPLOYMENT / "kubernetes"
TARGETS = ["mqtt", "kafka"]
MOST_DRAIN = 10.0
"""Seconds that remain after drain_seconds: for the log, the store's last write and the interpreter's end."""


def manifests(target):
    """What `kubectl apply -k` applies, as it stands in the files."""
    kustomization = yaml.safe_load((KUBERNETES / target / "kustomization.yaml").read_text("utf-8"))
    for name in kustomization["resources"]:
        yield from yaml.safe_load_all((KUBERNETES / target / name).read_text("utf-8"))


def workload(target):
    (found,) = [one for one in manifests(target) if one["kind"] in ("Deployment", "StatefulSet")]
    return found


def pod(target):
    return workload(target)["spec"]["template"]["spec"]


def container(target):
    (found,) = pod(target)["containers"]
    return found


ALL = [pytest.param(target, one, id=f"{target} {one['kind']}") for target in TARGETS for one in manifests(target)]


@pytest.mark.parametrize(("target", "manifest"), ALL)
def test_the_manifests_are_valid_by_kubernetes_own_schemas(target, manifest):
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("target", TARGETS)
def test_a_key_that_kubernetes_does_not_know_is_found(target):
    manifest = workload(target)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest | {"spec": manifest["spec"] | {"nonsense": 1}}, "1.33", strict=True)


@pytest.mark.parametrize("target", TARGETS)
def test_pods_fulfil_the_restricted_standard(target):
    (namespace,) = [one for one in manifests(target) if one["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    whole, inner = pod(target)["securityContext"], container(target)["securityContext"]
    assert whole["runAsNonRoot"] is True
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    assert inner["allowPrivilegeEscalation"] is False
    assert inner["capabilities"] == {"drop": ["ALL"]}
    assert inner["readOnlyRootFilesystem"] is True
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod(target))
    assert all(
        set(volume) - {"name"} <= {"configMap", "persistentVolumeClaim", "emptyDir"}
        for volume in pod(target)["volumes"]
    )
    assert {str(whole[key]) for key in ("runAsUser", "runAsGroup", "fsGroup")} == {USER}


@pytest.mark.parametrize("target", TARGETS)
def test_names_lead_to_each_other(target):
    labels = workload(target)["spec"]["template"]["metadata"]["labels"]
    for one in manifests(target):
        selector = one.get("spec", {}).get("selector") or one.get("spec", {}).get("podSelector")
        if selector:
            assert selector.get("matchLabels", selector).items() <= labels.items(), one["kind"]
    claims = {claim["metadata"]["name"] for claim in workload(target)["spec"].get("volumeClaimTemplates", ())}
    volumes = {volume["name"] for volume in pod(target)["volumes"]} | claims
    assert {mount["name"] for mount in container(target)["volumeMounts"]} == volumes
    existing = {one["metadata"]["name"] for one in manifests(target) if one["kind"] == "PersistentVolumeClaim"}
    kustomization = yaml.safe_load((KUBERNETES / target / "kustomization.yaml").read_text("utf-8"))
    generated = {one["name"]: one["files"] for one in kustomization["configMapGenerator"]}
    for volume in pod(target)["volumes"]:
        if "configMap" in volume:
            assert generated[volume["configMap"]["name"]] == ["run.toml"]
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"]["claimName"] in existing
    assert container(target)["image"] in {image["name"] for image in kustomization["images"]}
    assert all(image["newTag"] not in ("", "latest") for image in kustomization["images"])
    if workload(target)["kind"] == "StatefulSet":
        (service,) = [one for one in manifests(target) if one["kind"] == "Service"]
        assert workload(target)["spec"]["serviceName"] == service["metadata"]["name"]
        assert service["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize("target", TARGETS)
def test_the_configuration_is_one_of_streamrde_and_fits_the_pod(target):
    settings = read_toml(KUBERNETES / target / "run.toml", RunConfig)
    settings.check()
    assert settings.warnings() == []
    assert settings.service.host == "0.0.0.0"
    (port,) = container(target)["ports"]
    assert port["containerPort"] == settings.service.port
    assert pod(target)["terminationGracePeriodSeconds"] >= settings.service.drain_seconds + MOST_DRAIN
    probes = [container(target)[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")]
    assert [probe["path"] for probe in probes] == ["/healthz", "/healthz", "/readyz"]
    assert {probe["port"] for probe in probes} == {port["name"]}
    mounts = {mount["mountPath"] for mount in container(target)["volumeMounts"]}
    assert {"/etc/streamrde", "/var/lib/streamrde"} <= mounts
    assert str(settings.model).startswith("/models/")


def test_a_store_has_one_owner():
    assert workload("mqtt")["spec"]["replicas"] == 1
    assert workload("mqtt")["spec"]["strategy"] == {"type": "Recreate"}
    (claim,) = [one for one in manifests("mqtt") if one["kind"] == "PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert (KUBERNETES / "mqtt" / "run.toml").read_text("utf-8").count("/var/lib/streamrde/") == 2


@pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not installed: apt-get install kubernetes-client"
)
@pytest.mark.parametrize("target", TARGETS)
def test_kubectl_puts_the_manifests_together(target):
    done = subprocess.run(["kubectl", "kustomize", KUBERNETES / target], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = list(yaml.safe_load_all(done.stdout))
    for one in made:
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
    (config,) = [one for one in made if one["kind"] == "ConfigMap"]
    assert config["data"]["run.toml"] == (KUBERNETES / target / "run.toml").read_text("utf-8")
    (of_pod,) = [one for one in made if one["kind"] in ("Deployment", "StatefulSet")]
    names = [
        volume["configMap"]["name"] for volume in of_pod["spec"]["template"]["spec"]["volumes"] if "configMap" in volume
    ]
    assert names == [config["metadata"]["name"]]
    assert len(set(itertools.chain(one["metadata"].get("namespace", "streamrde") for one in made))) == 1
