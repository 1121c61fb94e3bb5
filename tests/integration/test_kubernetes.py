"""deploy/kubernetes: each manifest passes the schema of every supported Kubernetes, and says what the service understands."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from pickguard import Settings
from pickguard.entrypoints.http.routes import ROUTES
from pickguard.entrypoints.settings import EMBEDDED, options

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy/kubernetes"
FILES: Final = sorted(file.name for file in DEPLOY.iterdir() if file.name != "kustomization.yaml")
VERSIONS: Final = ["1.30", "1.33", kubernetes_validate.latest_version()]


def read(name: str) -> dict[str, Any]:
    (document,) = yaml.safe_load_all((DEPLOY / name).read_text())
    assert isinstance(document, dict)
    return document


KUSTOMIZATION: Final = read("kustomization.yaml")
POD: Final = read("deployment.yaml")["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", FILES)
def test_each_manifest_passes_the_strict_schema(name: str, version: str) -> None:
    kubernetes_validate.validate(read(name), version, strict=True)


def test_the_schema_refuses_what_kubernetes_does_not_know() -> None:
    wrong = copy.deepcopy(read("deployment.yaml"))
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_the_kustomization_names_every_manifest_and_the_image() -> None:
    assert sorted(KUSTOMIZATION["resources"]) == FILES
    assert [image["name"] for image in KUSTOMIZATION["images"]] == [CONTAINER["image"]]
    assert KUSTOMIZATION["namespace"] == read("namespace.yaml")["metadata"]["name"]


def environment() -> dict[str, str]:
    settings = read("settings.yaml")
    assert [each["configMapRef"]["name"] for each in CONTAINER["envFrom"]] == [settings["metadata"]["name"]]
    given: dict[str, str] = dict(settings["data"])
    for each in CONTAINER["env"]:
        assert each["name"] not in given
        given[each["name"]] = each["value"]
    return given


def test_every_variable_is_a_setting_and_all_together_make_sense(tmp_path: Path) -> None:
    given = environment()
    assert set(given) <= {each.variable for each in options()}
    for name, path in given.items():
        if path.startswith("/etc/pickguard/"):
            file = tmp_path / path.removeprefix("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("something")
            given[name] = str(file)
    settings = Settings.load({}, given)
    assert settings.strict_durability
    assert not settings.no_tls


def test_several_pods_never_have_a_store_each() -> None:
    assert read("deployment.yaml")["spec"]["replicas"] > 1
    assert Settings.load({}, {"PICKGUARD_STORE": environment()["PICKGUARD_STORE"]}).store not in {EMBEDDED, "memory:"}


def test_no_password_stands_in_a_manifest() -> None:
    secret = {each.variable for each in options() if each.in_environment_only}
    assert secret
    assert not secret & set(environment())
    assert "Secret" not in {read(name)["kind"] for name in FILES}


def test_every_file_that_is_named_is_mounted() -> None:
    mounts = {each["mountPath"]: each["name"] for each in CONTAINER["volumeMounts"]}
    assert set(mounts.values()) == {each["name"] for each in POD["volumes"]}
    for path in (each for each in environment().values() if each.startswith("/")):
        assert path in mounts or str(Path(path).parent) in mounts


def probes() -> Iterator[dict[str, Any]]:
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        yield CONTAINER[name]["httpGet"]


def test_the_probes_ask_what_the_service_answers_where_it_listens() -> None:
    ports = {each["name"]: str(each["containerPort"]) for each in CONTAINER["ports"]}
    paths = {path for method, path, _ in ROUTES if method == "GET"}
    for probe in probes():
        assert probe["scheme"] == "HTTPS"
        assert ports[probe["port"]] == environment()["PICKGUARD_PORT"]
        assert probe["path"] in paths
    assert CONTAINER["livenessProbe"]["httpGet"]["path"] == "/livez", "a store that is away is no reason to kill a pod"
    assert CONTAINER["readinessProbe"]["httpGet"]["path"] == "/readyz"
    (port,) = read("service.yaml")["spec"]["ports"]
    assert port["targetPort"] in ports


def test_a_pod_has_the_time_that_it_takes_to_stop() -> None:
    program, seconds = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    assert POD["terminationGracePeriodSeconds"] > int(seconds) + 2 * Settings().shutdown_timeout.total_seconds()


def test_a_pod_has_no_more_rights_than_it_needs() -> None:
    user, _, group = re.findall(r"^USER (\d+)(:)(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[0]
    pod = POD["securityContext"]
    assert (pod["runAsNonRoot"], str(pod["runAsUser"]), str(pod["runAsGroup"])) == (True, user, group)
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["automountServiceAccountToken"] is False
    assert read("namespace.yaml")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert "memory" in CONTAINER["resources"]["limits"]


def test_all_speak_of_the_same_pods() -> None:
    labels = read("deployment.yaml")["spec"]["template"]["metadata"]["labels"]
    for name, path in (("deployment.yaml", "selector"), ("disruption.yaml", "selector"), ("network.yaml", "podSelector")):
        assert read(name)["spec"][path]["matchLabels"] == labels
    assert read("service.yaml")["spec"]["selector"] == labels


def test_variables_of_the_cluster_are_kept_out() -> None:
    # A service by the name of pickguard would give each pod PICKGUARD_PORT=tcp://…, which is no port.
    assert read("service.yaml")["metadata"]["name"] == "pickguard"
    assert POD["enableServiceLinks"] is False
