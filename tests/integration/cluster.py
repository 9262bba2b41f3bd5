"""Runs the real binaries: where they are, a small job, `tidegate local` in the background, its children."""

import contextlib
import json
import os
import signal
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("TIDEGATE_BIN", os.path.join(ROOT, "bin"))
TIDEGATE = os.path.join(BIN, "tidegate")

JOB = """
name: "integration"
seed: 3
data {
  format: GENERATED
  train { rows: %(rows)d shuffle_window: 1000 }
  valid { first_row: 10000000 rows: 5000 }
  split_bytes: %(split)d
  generator { seed: 20 cardinality: [10, 100, 1000, 5000] numeric_fields: 1 }
}
feature { name: "I{1..1}" numeric { transform: LOG1P } }
feature { name: "C{1..4}" table: "emb" }
table {
  name: "emb"
  part { name: "w" dim: 1 adagrad { lr: 0.05 } }
  part { name: "v" dim: 8 init { normal: 0.01 } adagrad { lr: 0.05 } }
}
dense { adam { lr: 0.001 } }
model {
  preset { kind: DEEPFM wide: "emb.w" deep: "emb.v" numeric: "I{1..1}" units: [32, 16] }
  task { name: "click" logit: "%(logit)s" label: "label" loss: BCE metric: [AUC, LOGLOSS, CALIBRATION] }
}
train { global_batch: %(batch)d epochs: %(epochs)d staleness: "%(staleness)s" }
cluster { servers: 2 workers: 2 }
"""


def write_job(path, rows=40000, epochs=2, batch=1024, staleness="4", split=5000):
    text = JOB % dict(rows=rows, epochs=epochs, batch=batch, staleness=staleness, split=split, logit="")
    text = text.replace(' logit: ""', "")
    path.write_text(text)
    return str(path)


def run(*arguments, timeout=120, cwd=None):
    return subprocess.run([TIDEGATE] + [str(a) for a in arguments], capture_output=True, text=True, timeout=timeout,
                          stdin=subprocess.DEVNULL, cwd=cwd)


def wait_for(condition, what, timeout=60):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.05)
    raise AssertionError("waited %d s for %s" % (timeout, what))


def status_of(scheduler):
    done = run("status", "--scheduler=" + scheduler, "--json", "--timeout=2")
    return json.loads(done.stdout) if done.returncode == 0 else None


def start_training(local, path, *flags, rows, seconds=2, samples=1, **job_fields):
    """A job of one epoch in the midst of training, with work for at least `seconds` left at the speed seen so far:
    on a machine that is too fast for `rows`, another one with more. job.rows has how many there are."""
    for _ in range(8):
        job = local(write_job(path, rows=rows, epochs=1, **job_fields), *flags)
        status = job.wait_for_training(samples)
        speed = status["samples_total"] / status["seconds"] if status and status["seconds"] > 0 else 0
        if status and rows - status["samples_total"] >= speed * seconds:
            job.rows = rows
            return job
        if not status:
            assert job.wait() == 0, job.log()
        job.close()
        rows *= 4
    raise AssertionError("no job lasts: %d rows at %g/s" % (rows, speed))


class Local:
    """`tidegate local` in the background."""

    def __init__(self, directory, config, *arguments):
        self.run_dir = os.path.join(str(directory), "run")
        self.summary_path = os.path.join(str(directory), "summary.json")
        self.checkpoints = os.path.join(str(directory), "checkpoints")
        self.stderr_path = os.path.join(str(directory), "stderr")
        self.stderr = open(self.stderr_path, "w")
        self.process = subprocess.Popen(
            [TIDEGATE, "local", "--config=" + config, "--run_dir=" + self.run_dir, "--summary=" + self.summary_path,
             "--checkpoint_dir=" + self.checkpoints] + list(arguments),
            stdout=subprocess.DEVNULL, stderr=self.stderr, stdin=subprocess.DEVNULL)

    def children(self, name=""):
        """{pid: command line} of our processes of that binary."""
        found = {}
        for pid in os.listdir("/proc"):
            if not pid.isdigit():
                continue
            with contextlib.suppress(OSError):
                with open("/proc/%s/stat" % pid) as f:
                    fields = f.read().rsplit(")", 1)[1].split()
                with open("/proc/%s/cmdline" % pid) as f:
                    command = f.read().split("\0")
                if fields[0] != "Z" and int(fields[1]) == self.process.pid and name in command[0]:
                    found[int(pid)] = command
        return found

    def address(self):
        with contextlib.suppress(OSError):
            with open(os.path.join(self.run_dir, "address")) as f:
                return f.read().strip()
        return ""

    def status(self):
        return status_of(self.address()) if self.address() else None

    def wait_for_training(self, samples=1, timeout=60):
        """The status once so many samples are done; {} if the job ended before that was seen."""
        def training():
            if self.process.poll() is not None:
                return self
            status = self.status()
            if not status or status["phase"] != "training":
                return None
            done = sum(m.get("samples_total", 0) for m in status["members"])
            return status if done >= samples else None

        found = wait_for(training, "training", timeout)
        return {} if found is self else found

    def kill(self, name, number=signal.SIGKILL, which=0):
        pid = sorted(self.children(name))[which]
        os.kill(pid, number)
        return pid

    def wait(self, timeout=120):
        status = self.process.wait(timeout)
        self.stderr.close()
        return status

    def summary(self):
        with open(self.summary_path) as f:
            return json.load(f)

    def log(self):
        with open(self.stderr_path) as f:
            return f.read()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class ByHand:
    """Processes without `tidegate local`, which would end what does not end."""

    def __init__(self, directory, config):
        self.directory, self.config, self.address = directory, config, directory / "address"
        self.processes = []

    def start(self, binary, *flags):
        with open(self.directory / ("log-%d" % len(self.processes)), "w") as log:
            self.processes.append(subprocess.Popen([os.path.join(BIN, binary), "--metrics_port=-1", *flags], stdout=log,
                                                   stderr=log, stdin=subprocess.DEVNULL))
        return self.processes[-1]

    def start_scheduler(self, *flags):
        return self.start("tidegate-scheduler", "--config=" + self.config, "--address_file=%s" % self.address,
                          "--state=%s" % (self.directory / "state"), *flags)

    def start_member(self, binary, *flags):
        wait_for(self.address.exists, "the scheduler's address")
        return self.start(binary, "--scheduler=" + self.address.read_text().strip(), *flags)

    def log_of(self, process):
        return (self.directory / ("log-%d" % self.processes.index(process))).read_text()

    def status(self):
        return status_of(self.address.read_text().strip()) if self.address.exists() else None

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()
