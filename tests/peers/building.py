"""Peers that are built here, once, into `listing.CACHE`: from packages that a Go module, an npm package or a Maven project of ours names.

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
    """The packages that `tests/peers/node/package-lock.json` names."""

    name: str = "node"

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
    """What `tests/peers/<name>/pom.xml` names, and classes of ours beside it (`*.java`), if there are any."""

    name: str

    def build(self) -> Built:
        """Jars are in `folder / "lib"`, our classes in `folder / "classes"`, `*.xml` beside the pom in `folder`. Raises NotBuilt.

        Versions are by artifact, without its group.
        """
        source = HERE / self.name
        files = [*sorted(source.glob("*.xml")), *sorted(source.glob("*.java"))]
        return _once(self.name, files, lambda folder: self._make(files, folder))

    def _make(self, files: list[Path], folder: Path) -> dict[str, str]:
        javac, mvn = listing.apt_installed("javac", "default-jdk-headless"), listing.apt_installed("mvn", "maven")
        if javac is None or mvn is None or java() is None:
            raise NotBuilt("no java, javac and mvn, and they cannot be installed by apt-get as root")
        for file in files:
            shutil.copy(file, folder)
        lib, classes = folder / "lib", folder / "classes"
        # `--strict-checksums`: what does not have the checksum that was published for it is not taken.
        _run(
            mvn, "--batch-mode", "--quiet", "--strict-checksums", "dependency:copy-dependencies", f"-DoutputDirectory={lib}", folder=folder
        )
        if sources := [file for file in files if file.suffix == ".java"]:
            _run(javac, "-cp", f"{lib}/*", "-d", classes, *sources, folder=folder)
        jars = (re.fullmatch(r"(.+?)-(\d.*)\.jar", jar.name) for jar in lib.iterdir())
        return {jar[1]: jar[2] for jar in jars if jar is not None}


def java() -> Path | None:
    """The program that runs what a `MavenPeer` built, installed if it has to be; None: it cannot be had."""
    return listing.apt_installed("java", "default-jre-headless")


COLLECTOR = GoPeer("collector")
GO_FORWARD = GoPeer("goforward", ("./logger", "./ibm"))
GRPCURL = GoPeer("grpcurl", ("github.com/fullstorydev/grpcurl/cmd/grpcurl",))
DEPLOYING = GoPeer("deploying", (".", "sigs.k8s.io/kustomize/kustomize/v5"))
NODE = NodePeers()
OPENSEARCH = MavenPeer("opensearch")
KAFKA = MavenPeer("kafka")

ALL = (COLLECTOR, GO_FORWARD, GRPCURL, DEPLOYING, NODE, OPENSEARCH, KAFKA)


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


def built(peer: GoPeer | NodePeers | MavenPeer, *names: str) -> Built:
    """What was built, for a fixture; if it cannot be had, the peers `names` are missing."""
    try:
        return peer.build()
    except NotBuilt as error:
        listing.missing(*names, why=str(error))


def main() -> NoReturn:
    """Build all. Where `CI=true`, fail if one cannot be had."""
    failed = False
    for peer in ALL:
        begun_s = time.monotonic()
        try:
            peer.build()
        except NotBuilt as error:
            failed = True
            print(f"peers: {peer.name}: {error}", file=sys.stderr)
        else:
            print(f"peers: {peer.name} is there ({time.monotonic() - begun_s:.1f} s)", flush=True)
    for name, program in (("rsyslog", listing.rsyslogd()), ("syslog-ng", listing.syslog_ng_folder())):
        failed |= program is None
        print(f"peers: {name} {'is there' if program else 'cannot be had by apt-get'}", flush=True)
    sys.exit(1 if failed and os.environ.get("CI") == "true" else 0)


if __name__ == "__main__":
    main()
