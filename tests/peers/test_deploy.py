"""deploy/: what is shipped for containers, Kubernetes and systemd, read by the programs that will read it.

Compose files are loaded by compose-go (its schema and its rules), the Dockerfile is parsed and linted by BuildKit, overlays are built by
kustomize and checked against the schemas of Kubernetes, the unit by systemd-analyze. No image is built and no container started: that
needs a container engine. Every configuration of ours that they name is loaded.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.peers import building, listing
from tests.peers.listing import missing, peer

from esa_tls import app, config
from esa_tls.core.records import KINDS
from esa_tls.telemetry import Counters

pytestmark = pytest.mark.timeout(60, func_only=True)  # a first run builds the programs before

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES_VERSIONS = ("1.29", "1.33")


@pytest.fixture(scope="module")
def programs() -> Path:
    """The folder with `deploying` and `kustomize`."""
    made = building.built(building.DEPLOYING, listing.COMPOSE, listing.BUILDKIT, listing.KUSTOMIZE)
    peer(listing.COMPOSE, made.versions["github.com/compose-spec/compose-go/v2"])
    peer(listing.BUILDKIT, made.versions["github.com/moby/buildkit"])
    peer(listing.KUSTOMIZE, made.versions["sigs.k8s.io/kustomize/kustomize/v5"])
    return made.folder


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """What a program says."""
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


# -- the image -------------------------------------------------------------------------------------------------------------------
def test_the_dockerfile_has_no_fault(programs: Path, tmp_path: Path) -> None:
    """BuildKit takes it and its linter finds nothing; of one with faults it does."""
    done = run(programs / "deploying", "dockerfile", DEPLOY / "container" / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    (tmp_path / "Dockerfile").write_text("FROM scratch\nWORKDIR here\nENTRYPOINT foo\n")
    assert "WorkdirRelativePath" in run(programs / "deploying", "dockerfile", tmp_path / "Dockerfile").stdout


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    """Each COPY from the build context names something that exists and that .dockerignore lets through."""
    text = (DEPLOY / "container" / "Dockerfile").read_text()
    let_through = [line[1:] for line in (DEPLOY / "container" / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [word for line in re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert len(copied) >= 5
    for name in copied:
        assert (ROOT / name).exists(), name
        assert any(name == one or name.startswith(one + "/") for one in let_through), name


def test_the_image_runs_a_configuration_that_loads() -> None:
    """As a user without rights, with data where the volume is, and nothing else written."""
    text = (DEPLOY / "container" / "Dockerfile").read_text()
    made = config.load(DEPLOY / "container" / "esa-tls.yaml")
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert f"VOLUME {made.data_dir}" in text
    assert app.unprotected(made) == []
    for sink in made.sinks:
        assert app.make_sink(sink, Counters()).name == sink.name


def test_the_image_has_what_the_package_needs_by_hash() -> None:
    """Its lock names every dependency of pyproject.toml and of the extra `charts`, each with hashes, and no index."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (DEPLOY / "container" / "requirements.lock").read_text()
    locked = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, re.MULTILINE))
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in locked}
    for wanted in [*project["dependencies"], *project["optional-dependencies"]["charts"]]:
        name = re.match(r"[A-Za-z0-9._-]+", wanted)
        assert name is not None
        assert re.sub(r"[-_.]+", "-", name[0]).lower() in names, wanted
    assert text.count("--hash=sha256:") >= len(locked)
    assert "pytest" not in names
    assert "://" not in text


# -- compose ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["fluent-bit", "collector"])
def test_compose_files_load(programs: Path, name: str) -> None:
    """By compose-go; every file they mount exists, ours loads, and everybody shares the loopback of esa-tls."""
    done = run(programs / "deploying", "compose", DEPLOY / "compose" / name / "compose.yaml")
    assert done.returncode == 0, done.stderr
    services: dict[str, Any] = json.loads(done.stdout)["services"]
    ours = services.pop("esa-tls")
    [other] = services.values()
    assert other["network_mode"] == "service:esa-tls"
    assert ours["read_only"] is True
    assert ours["cap_drop"] == ["ALL"]
    assert "ports" not in ours
    assert Path(ours["build"]["context"], ours["build"]["dockerfile"]).is_file()
    mounted = {
        one["target"]: one["source"] for service in (ours, other) for one in service["volumes"] if one["source"].startswith(str(DEPLOY))
    }
    assert len(mounted) == 2
    assert all(Path(source).is_file() for source in mounted.values())
    made = config.load(Path(mounted["/etc/esa-tls/esa-tls.yaml"]))
    kept = [one["target"] for one in ours["volumes"] if one["type"] == "volume"]
    assert made.data_dir in kept
    written = [Path(sink.path).parent for sink in made.sinks if isinstance(sink, config.JsonlSink) and sink.path != "-"]
    assert all(str(folder) in kept for folder in written)


def test_a_wrong_compose_file_is_refused(programs: Path, tmp_path: Path) -> None:
    """The check can fail."""
    (tmp_path / "compose.yaml").write_text("services: {a: {image: b, red_only: true}}\n")
    done = run(programs / "deploying", "compose", tmp_path / "compose.yaml")
    assert done.returncode == 1
    assert "red_only" in done.stderr


# -- Kubernetes ------------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module", params=["sidecar", "daemonset"])
def built(request: pytest.FixtureRequest, programs: Path) -> list[dict[str, Any]]:
    """What kustomize makes of an overlay."""
    done = run(programs / "kustomize", "build", DEPLOY / "kubernetes" / request.param)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_overlays_fit_the_schemas(built: list[dict[str, Any]], version: str) -> None:
    """Strictly: a key that Kubernetes does not know is an error, too."""
    assert len(built) >= 4
    for one in built:
        kubernetes_validate.validate(one, version, strict=True)
    wrong = {**built[-1], "spek": 1}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_pods_are_locked_down_and_whole(built: list[dict[str, Any]]) -> None:
    """No rights, read-only roots, probes on a port that is there; every mount has its volume, every file of a ConfigMap is in it."""
    [workload] = [one for one in built if one["kind"] in ("StatefulSet", "DaemonSet")]
    pod = workload["spec"]["template"]["spec"]
    claims = {one["metadata"]["name"] for one in workload["spec"].get("volumeClaimTemplates", [])}
    volumes = {one["name"]: one for one in pod["volumes"]}
    maps = {one["metadata"]["name"]: one["data"] for one in built if one["kind"] == "ConfigMap"}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    ours = next(one for one in pod["containers"] if one["name"] == "esa-tls")
    for container in pod["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        for mount in container["volumeMounts"]:
            assert mount["name"] in volumes.keys() | claims
            if source := volumes.get(mount["name"], {}).get("configMap"):
                assert mount["subPath"] in maps[source["name"]]
    ports = {one["name"] for one in ours["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert ours[probe]["httpGet"]["port"] in ports
        assert ours[probe]["httpGet"]["path"] in ("/health/live", "/health/ready")


def test_the_pods_two_configurations_meet(built: list[dict[str, Any]], tmp_path: Path) -> None:
    """Ours loads; Fluent Bit sends to where it listens and listens where it sends, loses nothing and sends no record round."""
    maps = [one["data"] for one in built if one["kind"] == "ConfigMap"]
    [ours] = [data["esa-tls.yaml"] for data in maps if "esa-tls.yaml" in data]
    [theirs] = [yaml.safe_load(data["fluent-bit.yaml"]) for data in maps if "fluent-bit.yaml" in data]
    secret = tmp_path / "metrics-token"
    secret.write_text("x")
    path = tmp_path / "esa-tls.yaml"
    path.write_text(ours.replace("/etc/esa-tls/secrets/metrics-token", str(secret)))
    made = config.load(path)
    assert made.web is not None
    assert made.web.metrics_token is not None
    assert app.unprotected(made) == []
    [tail, forward] = theirs["pipeline"]["inputs"]
    [back, _] = theirs["pipeline"]["outputs"]
    [sink] = made.sinks
    assert isinstance(sink, config.FluentSink)
    assert (back["host"], back["port"]) == config.listen_address(made.sources[0].listen)
    assert [f"{forward['listen']}:{forward['port']}"] == sink.endpoints
    assert sink.max_frame_bytes < forward["buffer_max_size"]
    assert (back["match"], back["workers"], back["retry_limit"], back["require_ack_response"]) == (tail["tag"], 1, "no_limits", True)
    assert set(sink.records) == set(KINDS)
    assert "record:appliance" in made.appliance.from_
    assert 'record["appliance"]' in tail["processors"]["logs"][0]["code"]


# -- systemd ---------------------------------------------------------------------------------------------------------------------
UNIT = DEPLOY / "systemd" / "esa-tls.service"


@pytest.fixture(scope="module")
def systemd_analyze() -> str:
    """The program."""
    program = listing.apt_installed("systemd-analyze", "systemd")
    if program is None:
        missing(listing.SYSTEMD_ANALYZE, why="it cannot be installed by apt-get as root")
    peer(listing.SYSTEMD_ANALYZE, run(program, "--version").stdout.split()[1])
    return str(program)


def test_the_unit_is_understood(systemd_analyze: str, tmp_path: Path) -> None:
    """Every key and value; with a program that is there in place of ours, and without the manual page, which is not installed here."""
    unit = tmp_path / UNIT.name
    text = re.sub(r"^Documentation=.*\n", "", UNIT.read_text(), flags=re.MULTILINE)
    unit.write_text(text.replace("/opt/esa-tls/bin/esa-tls", shutil.which("true") or "/bin/true"))
    done = run(systemd_analyze, "verify", "--man=no", unit)
    ours = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, ours) == (0, []), done.stderr
    unit.write_text(text + "\n[Service]\nProtectHomes=yes\n")
    assert "ProtectHomes" in run(systemd_analyze, "verify", "--man=no", unit).stderr


def test_the_unit_is_locked_down(systemd_analyze: str) -> None:
    """Exposure as systemd counts it, 0 to 10: below 2 (it may use the network)."""
    done = run(systemd_analyze, "security", "--offline=true", "--threshold=20", UNIT)
    assert done.returncode == 0, done.stdout


def test_the_units_commands_are_ours() -> None:
    """What it starts, checks and reloads are commands of the product, and its data is where its state directory is."""
    text = UNIT.read_text()
    assert re.findall(r"^Exec\w+=\S+/esa-tls (\S+)", text, re.MULTILINE) == ["check-config", "run"]
    assert "ExecReload=/bin/kill -HUP $MAINPID" in text
    assert "StateDirectory=esa-tls" in text
    assert "data_dir: /var/lib/esa-tls" in text
