"""etcd on loopback, as Debian's etcd-server: one node or three, each in a folder of its own, at free ports."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time

import pytest
from cluster import wait_for

needs_etcd = pytest.mark.skipif(not (shutil.which("etcd") and shutil.which("etcdctl")),
                                reason="etcd is not installed (Debian: etcd-server etcd-client)")


def free_ports(count):
    held = [socket.socket() for _ in range(count)]
    for s in held:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


class Etcd:
    def __init__(self, directory, nodes=1):
        self.directory, self.processes = str(directory), []
        for attempt in range(5):  # another process may take a port that was free
            ports = free_ports(2 * nodes)
            self.clients, self.peers = ports[:nodes], ports[nodes:]
            self.folder = os.path.join(self.directory, "etcd-%d" % attempt)
            os.makedirs(self.folder)
            self.processes = [self._start(i) for i in range(nodes)]
            if self._serves():
                return
            self.close()
        raise AssertionError("etcd does not start: " + self.log(0))

    def _start(self, i):
        peers = ",".join("n%d=http://127.0.0.1:%d" % (j, port) for j, port in enumerate(self.peers))
        client, peer = ("http://127.0.0.1:%d" % p for p in (self.clients[i], self.peers[i]))
        with open(os.path.join(self.folder, "log-%d" % i), "a") as log:
            return subprocess.Popen(
                ["etcd", "--name=n%d" % i, "--data-dir=" + os.path.join(self.folder, "n%d" % i), "--listen-client-urls=" + client,
                 "--advertise-client-urls=" + client, "--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
                 "--initial-cluster=" + peers, "--heartbeat-interval=50", "--election-timeout=500"],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _serves(self):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and all(p.poll() is None for p in self.processes):
            if self.ctl("put", "/test", "1", check=False).returncode == 0:
                return True
            time.sleep(0.1)
        return False

    def log(self, i):
        with open(os.path.join(self.folder, "log-%d" % i)) as f:
            return f.read()

    def state(self, prefix):
        return "etcd://%s%s" % (",".join("127.0.0.1:%d" % p for p in self.clients), prefix)

    def ctl(self, *arguments, check=True, text=True, input=None):
        endpoints = ",".join("127.0.0.1:%d" % p for p in self.clients)
        return subprocess.run(["etcdctl", "--endpoints=" + endpoints, *arguments], capture_output=True, text=text, check=check,
                              timeout=30, input=input, env={**os.environ, "ETCDCTL_API": "3"})

    def get(self, key):
        return self.ctl("get", "--print-value-only", key).stdout.strip()

    def revision(self, key):
        """In which the key was created."""
        return json.loads(self.ctl("get", "-w=json", key).stdout)["kvs"][0]["create_revision"]

    def leader_node(self):
        """Index of the node that leads etcd."""
        for i, port in enumerate(self.clients):
            found = subprocess.run(["etcdctl", "--endpoints=127.0.0.1:%d" % port, "endpoint", "status"], capture_output=True, text=True,
                                   env={**os.environ, "ETCDCTL_API": "3"})
            if found.returncode == 0 and found.stdout.split(", ")[4] == "true":
                return i
        return None

    def kill(self, i=0):
        self.processes[i].kill()
        self.processes[i].wait()

    def start_again(self, i=0):
        self.processes[i] = self._start(i)
        wait_for(lambda: self.ctl("get", "/test", check=False).returncode == 0, "etcd's return")

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
