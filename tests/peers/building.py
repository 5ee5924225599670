"""Peers that are built here, once, into `listing.CACHE`: from packages that Go, npm, Maven and pip projects of ours name.

`make peers` (`python -m tests.peers.building`) builds all of them; a test that comes first builds the one it needs. What was built is kept
as long as the files it was built from stay the same. Only package managers reach the network, and their own settings say where to.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import msgspec
from tests.peers import listing

HERE = Path(__file__).parent

BUILD_TIMEOUT_S = 1500.0
"""For the largest, with all of its modules to be fetched, on a busy machine."""


class Built(msgspec.Struct, frozen=True):
    """What was built. `versions`: of the modules in it, by module path or package name."""

    folder: Path
    versions: dict[str, str]


class NotBuilt(Exception):
    """A peer cannot be had here. Says why."""


class GoPeer(msgspec.Struct, frozen=True):
    """Programs of the Go module `tests/peers/<name>`: `packages` of it, or of tools that it names. Each program has its package's name."""

    name: str
    packages: tuple[str, ...] = (".",)

    def build(self) -> Built:
        """The programs are in `folder`. Raises NotBuilt."""
        source = HERE / self.name
        files = [*sorted(source.rglob("*.go")), source / "go.mod", source / "go.sum"]
        return _once(self.name, files, lambda folder: self._make(source, folder))

    def _make(self, source: Path, folder: Path) -> dict[str, str]:
        go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
        if go is None:
            raise NotBuilt("no go; Go 1.26 or newer builds it")
        # `-buildvcs=false`: it would ask git. `-mod=readonly`: a build changes none of our files.
        options = ("-buildvcs=false", "-mod=readonly", "-trimpath", "-ldflags=-s -w")
        _run(go, "build", *options, "-o", f"{folder}{os.sep}", *self.packages, folder=source)
        told = _run(go, "version", "-m", folder, folder=folder)
        return dict(re.findall(r"^\t(?:dep|mod)\t(\S+)\t(\S+)", told, re.MULTILINE))


class NodePeers(msgspec.Struct, frozen=True):
    """The packages that `tests/peers/<name>/package-lock.json` names."""

    name: str

    def build(self) -> Built:
        """They are in `folder / "node_modules"`. Raises NotBuilt."""
        source = HERE / self.name
        files = [source / name for name in ("package.json", "package-lock.json", ".npmrc")]
        return _once(self.name, files, lambda folder: self._make(files, folder))

    def _make(self, files: list[Path], folder: Path) -> dict[str, str]:
        node, npm = (listing.apt_installed(program, "nodejs", "npm") for program in ("node", "npm"))
        if node is None or npm is None:
            raise NotBuilt("no node and npm, and they cannot be installed by apt-get as root")
        for file in files:
            shutil.copy(file, folder)
        _run(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", folder=folder)
        packages = json.loads((folder / "package-lock.json").read_text())["packages"]
        return {path.removeprefix("node_modules/"): package["version"] for path, package in packages.items() if path}


class MavenPeer(msgspec.Struct, frozen=True):
    """What `tests/peers/<name>/pom.xml` names, and classes of ours beside it (`*.java`), if there are any.

    `java`: the oldest Java that it runs on. One that is newer than what the system installs need not be there: then its tests are skipped.
    """

    name: str
    java: int = 17

    @property
    def needed(self) -> bool:
        """Whether it can be had everywhere."""
        return self.java <= SYSTEM_JAVA

    def build(self) -> Built:
        """Jars are in `folder / "lib"`, our classes in `folder / "classes"`, `*.xml` beside the pom in `folder`. Raises NotBuilt.

        Versions are by artifact, without its group.
        """
        source = HERE / self.name
        files = [*sorted(source.glob("*.xml")), *sorted(source.glob("*.java"))]
        return _once(self.name, files, lambda folder: self._make(files, folder))

    def _make(self, files: list[Path], folder: Path) -> dict[str, str]:
        mvn = listing.apt_installed("mvn", "maven")
        home = jdk(self.java)
        if mvn is None or home is None:
            raise NotBuilt(f"no Maven, or no JDK {self.java} or newer, and they cannot be installed by apt-get as root")
        for file in files:
            shutil.copy(file, folder)
        # `--strict-checksums`: what does not have the checksum that was published for it is not taken.
        _run(mvn, "--batch-mode", "--quiet", "--strict-checksums", "dependency:copy-dependencies", "-DoutputDirectory=lib", folder=folder)
        if sources := [file for file in files if file.suffix == ".java"]:
            _run(home / "bin" / "javac", "-cp", "lib/*", "-d", "classes", *sources, folder=folder)
        jars = (re.fullmatch(r"(.+?)-(\d.*)\.jar", jar.name) for jar in (folder / "lib").iterdir())
        return {jar[1]: jar[2] for jar in jars if jar is not None}


class PythonPeer(msgspec.Struct, frozen=True):
    """An environment of its own with the packages that `tests/peers/<name>/requirements.txt` names, by hash; never that of the product."""

    name: str

    def build(self) -> Built:
        """Its Python is `folder / "bin" / "python"`. Raises NotBuilt.

        Programs are run by `-m`: their scripts name the folder that the environment was made in.
        """
        requirements = HERE / self.name / "requirements.txt"
        return _once(self.name, [requirements], lambda folder: self._make(requirements, folder))

    def _make(self, requirements: Path, folder: Path) -> dict[str, str]:
        python = folder / "bin" / "python"
        _run(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder)
        install = ("install", "--quiet", "--disable-pip-version-check", "--no-input", "--require-hashes", "--requirement", requirements)
        _run(sys.executable, "-m", "pip", "--python", python, *install, folder=folder)
        listed = "import importlib.metadata as m, json; print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"
        versions: dict[str, str] = json.loads(_run(python, "-c", listed, folder=folder))
        return versions


SYSTEM_JAVA = 17
"""What `default-jdk-headless` brings, or something newer."""


def jdk(at_least: int = SYSTEM_JAVA) -> Path | None:
    """The home of the oldest JDK that is new enough, installed if it has to be; None: it cannot be had."""
    homes = {Path(os.environ.get("JAVA_HOME", "/nowhere")), *Path("/usr/lib/jvm").glob("*")}
    if (javac := shutil.which("javac")) is not None:
        homes.add(Path(javac).resolve().parents[1])
    found = sorted((_java_version(home), str(home)) for home in homes if (home / "bin" / "javac").exists())
    for version, home in found:
        if version >= at_least:
            return Path(home)
    if at_least > SYSTEM_JAVA or found:
        return None
    javac_path = listing.apt_installed("javac", "default-jdk-headless")
    return None if javac_path is None else javac_path.resolve().parents[1]


def _java_version(home: Path) -> int:
    """Its major version; 0 if it does not say."""
    release = home / "release"
    match = re.search(r'^JAVA_VERSION="(\d+)', release.read_text(), re.MULTILINE) if release.exists() else None
    return int(match[1]) if match else 0


def java(at_least: int = SYSTEM_JAVA) -> Path | None:
    """The program that runs what a `MavenPeer` built; None: it cannot be had."""
    home = jdk(at_least)
    return None if home is None else home / "bin" / "java"


COLLECTOR = GoPeer("collector")
GO_FORWARD = GoPeer("goforward", ("./logger", "./ibm"))
GRPCURL = GoPeer("grpcurl", ("github.com/fullstorydev/grpcurl/cmd/grpcurl",))
DEPLOYING = GoPeer("deploying", (".", "sigs.k8s.io/kustomize/kustomize/v5"))
AXE = NodePeers("axe")
LOGQL = NodePeers("logql")
SCHEMAS = NodePeers("schemas")
NODE = NodePeers("node")
OPENSEARCH = MavenPeer("opensearch")
KAFKA = MavenPeer("kafka")
OPENSEARCH_3 = MavenPeer("opensearch3", java=21)
SIGMA = PythonPeer("sigma")
VICTORIA_LOGS = GoPeer("victorialogs", ("github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs",))

ALL = (AXE, COLLECTOR, GO_FORWARD, GRPCURL, DEPLOYING, KAFKA, LOGQL, NODE, OPENSEARCH, OPENSEARCH_3, SIGMA, VICTORIA_LOGS, SCHEMAS)


def _once(name: str, files: list[Path], make: Callable[[Path], dict[str, str]]) -> Built:
    """What `make` makes of these files in the folder that it is given, or made of them before."""
    folder, done = listing.CACHE / name, listing.CACHE / name / "versions.json"
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    digest.update(os.uname().machine.encode())
    with listing.alone(name):
        if done.exists():
            told = json.loads(done.read_text())
            if told["key"] == digest.hexdigest():
                return Built(folder, told["versions"])
        making = listing.CACHE / f"{name}.making"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        versions = make(making)
        (making / done.name).write_text(json.dumps({"key": digest.hexdigest(), "versions": versions}, indent=1, sort_keys=True))
        shutil.rmtree(folder, ignore_errors=True)
        making.rename(folder)
    return Built(folder, versions)


def _run(*command: str | Path, folder: Path) -> str:
    """What it wrote to standard output. Raises NotBuilt if it fails."""
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=BUILD_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise NotBuilt(f"not built within {BUILD_TIMEOUT_S:g} s") from error
    if done.returncode != 0:
        said = " / ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-5:])
        raise NotBuilt(f"{Path(command[0]).name} {command[1]} failed: {said}")
    return done.stdout


def built(peer: GoPeer | NodePeers | MavenPeer | PythonPeer, *names: str) -> Built:
    """What was built, for a fixture; if it cannot be had, the peers `names` are missing."""
    try:
        return peer.build()
    except NotBuilt as error:
        listing.missing(*names, why=str(error), needed=not isinstance(peer, MavenPeer) or peer.needed)


def main() -> NoReturn:
    """Build all. Where `CI=true`, fail if one cannot be had."""
    failed = False
    for peer in ALL:
        begun_s = time.monotonic()
        try:
            peer.build()
        except NotBuilt as error:
            failed |= not isinstance(peer, MavenPeer) or peer.needed
            print(f"peers: {peer.name}: {error}", file=sys.stderr)
        else:
            print(f"peers: {peer.name} is there ({time.monotonic() - begun_s:.1f} s)", flush=True)
    installed = (
        ("rsyslog", listing.rsyslogd()),
        ("syslog-ng", listing.syslog_ng_folder()),
        ("chromium", listing.chromium()),
        ("prometheus", listing.prometheus("prometheus")),
    )
    for name, program in installed:
        failed |= program is None
        print(f"peers: {name} {'is there' if program else 'cannot be had by apt-get'}", flush=True)
    sys.exit(1 if failed and os.environ.get("CI") == "true" else 0)


if __name__ == "__main__":
    main()
