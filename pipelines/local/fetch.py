"""Programs from the machine's ordinary clients: Maven, pip or uv, apt.

What was fetched lies in the cache under its name and version; a folder is
only ever there complete.
"""

import hashlib
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

from pipelines.errors import RequestError

__all__ = ["Jars", "cached", "debian", "jars", "java", "wheel"]

_log = logging.getLogger("rillet")

_LIMIT_S = 900
"""A download that takes longer than a quarter of an hour hangs."""

_COMPOSE = "or use Docker: docker compose -f infra/compose.yaml up"


def cached(cache: Path, name: str, make: Callable[[Path], None]) -> Path:
    """The folder `name` of the cache, made by `make(folder)` if it is missing."""
    target = cache / name
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f".{name}.lock"):
        if not target.is_dir():
            _log.info("local: fetching %s", name)
            with TemporaryDirectory(dir=cache, prefix=f".{name}-") as draft:
                folder = Path(draft) / "out"
                folder.mkdir()
                make(folder)
                folder.rename(target)
    return target


def java() -> str:
    """Path of a Java 17 or newer.

    Raises:
        RequestError: there is none.
    """
    home = os.environ.get("JAVA_HOME")
    found = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    cure = f"install Java 17 (Debian: apt-get install openjdk-17-jre-headless), {_COMPOSE}"
    if not found or not Path(found).exists():
        raise RequestError(f"java is not on this machine; {cure}")
    shown = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', shown)
    if version is None or int(version[1]) < 17:
        raise RequestError(f"{found} is {shown.splitlines()[:1]}, and 17 is needed; {cure}")
    return found


class Jars:
    """What Maven shall bring: a list of `group:artifact:version`.

    Attributes:
        wanted: direct dependencies.
        pinned: versions that transitive dependencies must have.
        without: `group:artifact` that must not come as a transitive dependency.
        main: with it, everything is shaded into one jar `all.jar` with this
            main class; without, the jars lie beside each other.
    """

    def __init__(
        self,
        wanted: Sequence[str],
        *,
        pinned: Sequence[str] = (),
        without: Sequence[str] = (),
        main: str | None = None,
    ) -> None:
        self.wanted, self.pinned, self.without, self.main = wanted, pinned, without, main

    def key(self) -> str:
        """Eight letters that change when anything here does."""
        return hashlib.sha256(self.pom().encode()).hexdigest()[:8]

    def pom(self) -> str:
        """The Maven project that has these and nothing else."""
        excluded = "".join(f"<exclusion>{_coordinates(name)}</exclusion>" for name in self.without)
        return (
            '<project xmlns="http://maven.apache.org/POM/4.0.0">'
            "<modelVersion>4.0.0</modelVersion>"
            "<groupId>rillet</groupId><artifactId>local</artifactId><version>1</version>"
            "<properties>"
            "<project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>"
            "</properties><dependencyManagement><dependencies>"
            + _dependencies(self.pinned)
            + "</dependencies></dependencyManagement><dependencies>"
            + _dependencies(self.wanted, f"<exclusions>{excluded}</exclusions>")
            + "</dependencies>"
            + (_SHADE.replace("MAIN", self.main) if self.main else "")
            + "</project>\n"
        )


def _coordinates(text: str) -> str:
    tags = ("groupId", "artifactId", "version")
    return "".join(f"<{t}>{v}</{t}>" for t, v in zip(tags, text.split(":"), strict=False))


def _dependencies(names: Iterable[str], tail: str = "") -> str:
    return "".join(f"<dependency>{_coordinates(name)}{tail}</dependency>" for name in names)


_SHADE = """<build><finalName>all</finalName><plugins><plugin>
<groupId>org.apache.maven.plugins</groupId><artifactId>maven-shade-plugin</artifactId>
<version>3.6.0</version><executions><execution><phase>package</phase><goals><goal>shade</goal></goals>
<configuration><createDependencyReducedPom>false</createDependencyReducedPom>
<filters><filter><artifact>*:*</artifact><excludes><exclude>META-INF/*.SF</exclude>
<exclude>META-INF/*.DSA</exclude><exclude>META-INF/*.RSA</exclude>
<exclude>module-info.class</exclude><exclude>META-INF/versions/*/module-info.class</exclude>
</excludes></filter></filters><transformers>
<transformer implementation="org.apache.maven.plugins.shade.resource.ServicesResourceTransformer"/>
<transformer implementation="org.apache.maven.plugins.shade.resource.ManifestResourceTransformer">
<mainClass>MAIN</mainClass>
<manifestEntries><Multi-Release>true</Multi-Release></manifestEntries></transformer>
</transformers></configuration></execution></executions></plugin></plugins></build>"""


def jars(part: str, wanted: Jars, folder: Path) -> None:
    """Put the jars into `folder`.

    Raises:
        RequestError: Maven is missing, or a jar cannot be had.
    """
    maven = shutil.which("mvn")
    if maven is None:
        raise RequestError(
            f"{part} needs Maven; install it (Debian: apt-get install maven), {_COMPOSE}"
        )
    with TemporaryDirectory() as draft:
        (Path(draft) / "pom.xml").write_text(wanted.pom(), encoding="utf-8")
        if wanted.main:
            _run(part, [maven, "-B", "-ntp", "package"], Path(draft))
            shutil.move(Path(draft) / "target" / "all.jar", folder / "all.jar")
        else:
            goal = ["dependency:copy-dependencies", "-DincludeScope=runtime"]
            _run(part, [maven, "-B", "-ntp", *goal, f"-DoutputDirectory={folder}"], Path(draft))


def wheel(part: str, requirement: str, folder: Path, *, keep: Callable[[Path], bool]) -> None:
    """Install one Python package, without what it depends on, and drop what `keep` refuses.

    Raises:
        RequestError: neither uv nor pip is here, or the package cannot be had.
    """
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is not None:
        installer = [uv, "pip", "install", "--python", sys.executable]
    elif importlib.util.find_spec("pip") is not None:
        installer = [sys.executable, "-m", "pip", "install"]
    else:
        raise RequestError(f"{part} needs uv or pip; install one of them, {_COMPOSE}")
    _run(part, [*installer, "--no-deps", "--target", str(folder), requirement], folder)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file() and not keep(path.relative_to(folder)):
            path.unlink()


def debian(part: str, packages: Sequence[str], folder: Path) -> None:
    """Unpack Debian packages into `folder`; needs no root and installs nothing.

    Raises:
        RequestError: this is no Debian, or the packages cannot be had.
    """
    apt, dpkg = shutil.which("apt-get"), shutil.which("dpkg")
    if apt is None or dpkg is None:
        raise RequestError(f"{part} needs {packages[0]}; install it and put it on PATH, {_COMPOSE}")
    with TemporaryDirectory() as draft:
        try:
            _run(part, [apt, "download", *packages], Path(draft))
        except RequestError:
            if os.geteuid() != 0:
                raise
            _run(part, [apt, "update"], Path(draft))  # the lists may be missing or old
            _run(part, [apt, "download", *packages], Path(draft))
        for package in sorted(Path(draft).glob("*.deb")):
            _run(part, [dpkg, "-x", str(package), str(folder)], Path(draft))


def _run(part: str, command: Sequence[str], cwd: Path) -> None:
    shown = " ".join(Path(command[0]).name if i == 0 else a for i, a in enumerate(command))
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise RequestError(f"{part}: `{shown}` took over {_LIMIT_S} s; try again") from None
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
        lines = lines or done.stderr.splitlines() or ["no output"]
        raise RequestError(f"{part}: `{shown}` failed: {lines[0].strip()[:300]}; {_COMPOSE}")
