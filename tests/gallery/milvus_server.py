"""A real Milvus server for the tests: the PyPI package ``milvus`` in an environment of its own."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parents[2]
#: What it takes to log in: the server's first user, as it is delivered.
TOKEN = "root:Milvus"
#: Time told more often brings answers sooner; and a server that was killed is soon forgotten by the next.
SETTINGS = {
    "proxy.timeTickInterval": 50,
    "queryCoord.checkInterval": 100,
    "queryCoord.distPullInterval": 100,
    "common.session.ttl": 10,
}
#: The ports of the server's own database: all servers have the same otherwise, and only one of them starts.
ETCD = """name: default
listen-client-urls: http://127.0.0.1:{clients}
advertise-client-urls: http://127.0.0.1:{clients}
listen-peer-urls: http://127.0.0.1:{peers}
initial-advertise-peer-urls: http://127.0.0.1:{peers}
initial-cluster: default=http://127.0.0.1:{peers}
"""


class NoServer(Exception):
    """Why there is no server."""


def executable() -> Path:
    """Where ``milvus-server`` is: what KRONREID_MILVUS names, or what ``make milvus`` installed.

    Raises:
        NoServer: Nowhere.
    """
    path = Path(os.environ.get("KRONREID_MILVUS") or ROOT / ".venv-milvus" / "bin" / "milvus-server")
    if not path.is_file():
        raise NoServer(f"there is no Milvus server at {path}; make milvus installs one")
    return path


class MilvusServer:
    """A standalone server with its data in a folder of its own; asks for a password.

    Raises:
        NoServer: It is not installed or does not start.
    """

    def __init__(self, folder: Path) -> None:
        self.program = executable()
        self.folder = folder
        self.port, self.health, clients, peers = free_ports(4)
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen | None = None
        unpacked = self.program.parents[1] / "unpacked"  # 200 MB that are the same for every data folder
        unpacked.mkdir(exist_ok=True)
        folder.mkdir(parents=True)
        (folder / "bin").symlink_to(unpacked)
        (folder / "etcd.yaml").write_text(ETCD.format(clients=clients, peers=peers))
        self.start()

    def start(self) -> None:
        """Start it on its folder and wait until it is ready.

        Servers of several test processes start one after the other: each looks for free ports of its parts,
        and two that look at once may choose the same.
        """
        with FileLock(self.program.parents[1] / "starting.lock"):
            self._start()

    def _start(self) -> None:
        settings = [f"--extra-config={name}={value}" for name, value in SETTINGS.items()]
        ports = [f"--proxy-port={self.port}", "--authorization-enabled=true"]
        command = [self.program.with_name("python"), "-c", LAUNCH, str(self.health), "--data", self.folder]
        self._process = subprocess.Popen(
            [*command, *ports, *settings],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"ETCD_CONFIG_PATH": str(self.folder / "etcd.yaml")},
            start_new_session=True,  # it is two processes, which end together
        )
        try:
            self._wait_for(self._process)
        except BaseException:
            self.stop()
            raise

    def _wait_for(self, process: subprocess.Popen) -> None:
        until = time.monotonic() + 120
        while not self._healthy():
            gone = process.poll() is not None or "panic" in self._complaint()
            if gone or time.monotonic() > until:
                raise NoServer(f"the Milvus server does not start: {self._complaint()}")
            time.sleep(0.2)

    def stop(self) -> None:
        """End it as a power cut would: what it confirmed has to be there when it starts again."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health}/healthz", timeout=5) as answer:
                return b"OK" in answer.read()
        except (urllib.error.URLError, OSError):
            return False

    def _complaint(self) -> str:
        log = self.folder / "logs" / "milvus-stderr.log"
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return next((line for line in lines if "panic" in line or "rror" in line), "it does not say why")


#: ``milvus-server`` with its port for health checks chosen here; after it was killed it takes its ports again
#: at once, where it would move on to the next ones.
LAUNCH = """
import socket, sys, milvus

class Reusing(socket.socket):
    def bind(self, address):
        self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        super().bind(address)

socket.socket = Reusing
milvus.default_server.webservice_port = int(sys.argv.pop(1))
milvus.main()
"""


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
