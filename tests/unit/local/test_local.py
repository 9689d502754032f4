"""Local services without any of the services: processes, ports, messages."""

import os
import signal
import socket
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from pipelines.errors import RequestError
from pipelines.local import down, fetch, process, status, up, worker_boot
from pipelines.local.process import Program
from pipelines.local.service import HOST, Place

SLEEPER = Program("sleeper", (sys.executable, "-c", "import time; time.sleep(600)"))


def test_a_program_is_started_once_known_again_and_stopped(tmp_path: Path) -> None:
    pid = process.start(tmp_path, SLEEPER)
    assert process.start(tmp_path, SLEEPER) == pid
    assert process.alive(tmp_path) == {"sleeper": pid}
    assert process.started_at(tmp_path, "sleeper") > 0
    assert process.stop(tmp_path, "sleeper")
    assert process.alive(tmp_path) == {}
    assert not process.stop(tmp_path, "sleeper")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_program_that_ignores_the_request_is_made_to_end(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True)"
    process.start(
        tmp_path, Program("deaf", (sys.executable, "-c", f"{deaf}\nwhile True: time.sleep(1)"))
    )
    log = process.log_file(tmp_path, "deaf")
    while not log.read_text():
        time.sleep(0.01)
    assert process.stop(tmp_path, "deaf", timeout_s=0.2)
    assert process.alive(tmp_path) == {}


def test_a_killed_program_is_gone_and_starts_again(tmp_path: Path) -> None:
    first = process.start(tmp_path, SLEEPER)
    assert process.kill(tmp_path, "sleeper")
    assert not process.kill(tmp_path, "sleeper")
    second = process.start(tmp_path, SLEEPER)
    assert process.alive(tmp_path) == {"sleeper": second}
    assert first != second
    process.stop(tmp_path, "sleeper")


def test_a_process_id_that_was_given_to_somebody_else_is_left_alone(tmp_path: Path) -> None:
    pid = process.start(tmp_path, SLEEPER)
    note = tmp_path / "run" / "sleeper.pid"
    kept = note.read_text()
    note.write_text(kept.replace('"started": "', '"started": "another boot '))
    assert process.pid_of(tmp_path, "sleeper") is None
    assert not process.stop(tmp_path, "sleeper")
    os.kill(pid, 0)  # still there
    note.write_text(kept)
    assert process.stop(tmp_path, "sleeper")


def test_the_children_of_a_stopped_program_go_with_it(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    process.start(tmp_path, Program("parent", (sys.executable, "-c", code)))
    log = process.log_file(tmp_path, "parent")
    while not log.read_text().endswith("\n"):
        time.sleep(0.01)
    child = int(log.read_text())
    process.stop(tmp_path, "parent")
    while Path(f"/proc/{child}").exists() and "\nState:\tZ" not in _state(child):
        time.sleep(0.01)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "\nState:\tZ"


def test_a_port_stays_the_same_once_it_was_given_out(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path, {"kafka": 0})
    port = place.port("kafka", 9092)
    assert place.port("kafka", 9092) == port
    assert Place(tmp_path, tmp_path).port("kafka", 9092) == port
    assert Place(tmp_path, tmp_path).ports() == {"kafka": port}


def test_a_taken_port_is_named_with_the_way_out(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RequestError, match=rf"port {port} for redis is taken.*--port redis=N"):
            Place(tmp_path, tmp_path, {"redis": port}).port("redis", 6379)


@pytest.mark.parametrize("ask", [up, status, down])
def test_an_unknown_part_is_refused_with_the_names_there_are(ask, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="'zookeeper' is no part; choose from kafka, flink"):
        ask(tmp_path / "local", only=["zookeeper"], cache=tmp_path)
    assert not (tmp_path / "local" / "run").exists()


def test_status_and_down_of_nothing_change_nothing(tmp_path: Path) -> None:
    parts = status(tmp_path / "local", cache=tmp_path / "cache")
    assert [part.name for part in parts] == ["kafka", "flink", "beam", "redis", "postgres"]
    assert {part.state for part in parts} == {"down"}
    assert down(tmp_path / "local", cache=tmp_path / "cache") == parts
    assert list(tmp_path.iterdir()) == []
    assert parts[0].to_json() == {
        "name": "kafka",
        "state": "down",
        "address": "",
        "pids": {},
        "logs": (),
    }


def test_what_cannot_be_had_is_named_with_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    expected = "java is not on this machine; install Java 17.*or use Docker"
    with pytest.raises(RequestError, match=expected):
        up(tmp_path / "local", only=["kafka"], cache=tmp_path / "cache")
    with pytest.raises(RequestError, match="kafka needs Maven; install it"):
        fetch.jars("kafka", fetch.Jars([]), tmp_path)
    with pytest.raises(RequestError, match="redis needs redis-server; install it"):
        fetch.debian("redis", ["redis-server"], tmp_path)


def test_an_old_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(RequestError, match=r"11\.0\.2.*and 17 is needed"):
        fetch.java()


def test_a_failed_download_leaves_no_half_folder(tmp_path: Path) -> None:
    def broken(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RequestError("the line was cut")

    with pytest.raises(RequestError, match="the line was cut"):
        fetch.cached(tmp_path, "thing-1", broken)
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []
    made = fetch.cached(tmp_path, "thing-1", lambda folder: (folder / "all").touch())
    assert [path.name for path in made.iterdir()] == ["all"]
    assert fetch.cached(tmp_path, "thing-1", broken) == made


def test_the_project_that_maven_gets_says_what_was_asked_for() -> None:
    asked = fetch.Jars(["a:b:1"], pinned=["c:d:2"], without=["e:f"], main="g.H")
    ns = {"m": "http://maven.apache.org/POM/4.0.0"}
    project = ET.fromstring(asked.pom())
    wanted = project.find("m:dependencies/m:dependency", ns)
    assert [tag.text for tag in wanted[:3]] == ["a", "b", "1"]
    excluded = wanted.find("m:exclusions/m:exclusion", ns)
    assert [tag.text for tag in excluded] == ["e", "f"]
    pinned = project.find("m:dependencyManagement/m:dependencies/m:dependency", ns)
    assert [tag.text for tag in pinned[:3]] == ["c", "d", "2"]
    assert project.find(".//m:mainClass", ns).text == "g.H"


def test_a_program_that_dies_at_once_is_reported_with_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.errors import JobError
    from pipelines.local import control

    class Broken:
        name = "redis"
        needs: tuple[str, ...] = ()

        def fetch(self, place: Place) -> None: ...

        def programs(self, place: Place) -> list[Program]:
            return [Program("redis", (sys.executable, "-c", "raise SystemExit('no memory')"))]

        def ready(self, place: Place) -> bool:
            return False

        def address(self, place: Place) -> str:
            return "nowhere"

    monkeypatch.setitem(control.PARTS, "redis", Broken())
    with pytest.raises(JobError, match=r"redis ended while starting: no memory; see .*redis\.log"):
        up(tmp_path / "local", only=["redis"], cache=tmp_path)


def test_stopping_uses_the_polite_signal_first(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(0)))\n"
        "print('hello', flush=True)\n"
        "while True: time.sleep(0.1)\n"
    )
    process.start(tmp_path, Program("polite", (sys.executable, "-c", code)))
    log = process.log_file(tmp_path, "polite")
    while "hello" not in log.read_text():
        time.sleep(0.01)
    process.stop(tmp_path, "polite")
    assert log.read_text().split() == ["hello", "bye"]


def test_a_program_is_ended_by_the_signal_that_it_wants(tmp_path: Path) -> None:
    deaf = (
        "import signal, time; signal.signal(15, signal.SIG_IGN)\n"
        "signal.signal(2, signal.default_int_handler)"  # ignored where tests run in the background
    )
    wait = "try:\n print(1, flush=True); time.sleep(600)\n"
    code = f"{deaf}\n{wait}except KeyboardInterrupt:\n print(2, flush=True)"
    argv = (sys.executable, "-c", code)
    process.start(tmp_path, Program("picky", argv, end=signal.SIGINT))
    log = process.log_file(tmp_path, "picky")
    while not log.read_text():
        time.sleep(0.01)
    assert process.stop(tmp_path, "picky", timeout_s=60.0)
    assert log.read_text().split() == ["1", "2"]


def test_what_killed_workers_left_goes_and_what_is_in_use_stays(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from pipelines.local.worker_boot import _work_folder\n"
        "with _work_folder(Path(sys.argv[1])) as folder:\n"
        "    print(folder, flush=True)\n    time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in "ab"]
    killed, living = (Path(worker.stdout.readline().strip()) for worker in workers)
    try:
        workers[0].kill()
        workers[0].wait()
        foreign = tmp_path / "rillet-worker-of-an-earlier-release"
        foreign.mkdir()
        assert killed.is_dir()
        with worker_boot._work_folder(tmp_path) as mine:
            assert set(tmp_path.iterdir()) == {living, foreign, mine}
        assert set(tmp_path.iterdir()) == {living, foreign}
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
