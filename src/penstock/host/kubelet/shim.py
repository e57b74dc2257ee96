"""The process above every container: keeps its log and its exit code, and never leaves it orphaned.

Run as `python -I -S shim.py ATTEMPT_FOLDER`, with the specification on standard input; it outlives the control plane. It
imports nothing but a few built-in modules, because one of it runs for every container (resident memory stays below 12 MB).

Specification: fields separated by NUL, each `key=value`, the last one `end=` (so a truncated one is noticed): `arg` (repeated),
`env` (repeated, NAME=value), `cwd`, `stop` (signal number), `cgroup` (folder to enter, optional).
Files in the attempt folder, each written atomically:
    pid    `shim_pid shim_start child_pid child_start started_at`   start: /proc/PID/stat field 22, 0 where there is no /proc
    exit   `exit_code signal started_at finished_at`                exit_code: 128 + signal if killed; times: Unix seconds
    log, log.1 … log.4   lines as the Container Runtime Interface writes them: `RFC3339Nano stdout|stderr F|P text`
Signals: SIGTERM is passed to the container's first process as its stop signal; SIGUSR1 kills its whole process group.
The container begins once `pid` is written: a shim whose folder was taken away meanwhile starts nothing.

Who kills whom: when the first process ends, everything it left behind is killed (the shim is a subreaper on Linux, so that
daemons which left the group are found too). When the shim itself is killed, a forked keeper sees its pipe close and kills the group;
on Linux the first process also dies by its parent-death signal. The keeper is what does the work on macOS.
Standard output, once: `started PID` or `error ERRNO what`.
"""

import _signal as signal  # type: ignore[import-not-found]  # `signal` is this and its enumerations, a third of a start's time
import os
import select
import sys
import time

MAX_LINE_BYTES = 16384
MAX_LOG_BYTES = 10 * 1024 * 1024
KEPT_LOGS = 5
READ_BYTES = 65536
DRAIN_S = 1.0
IDLE_MS = 500
KILL_ROUNDS = 1000
KILL_ROUND_S = 0.01
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class Spec:
    """What to run, as it came in on standard input."""

    def __init__(self, data: bytes) -> None:
        self.argv: list[bytes] = []
        self.env: dict[bytes, bytes] = {}
        self.cwd = b"/"
        self.stop_signal = int(signal.SIGTERM)
        self.cgroup = b""
        self.complete = False
        for part in data.split(b"\0"):
            key, _, value = part.partition(b"=")
            if key == b"arg":
                self.argv.append(value)
            elif key == b"env":
                name, _, text = value.partition(b"=")
                self.env[name] = text
            elif key == b"cwd":
                self.cwd = value
            elif key == b"stop":
                self.stop_signal = int(value)
            elif key == b"cgroup":
                self.cgroup = value
            elif key == b"end":
                self.complete = bool(self.argv)


class Log:
    """A file of bounded size; older ones are `path.1`, `path.2`, …"""

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = 0
        self.fd = -1
        self._open()

    def _open(self) -> None:
        self.fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.size = os.fstat(self.fd).st_size

    def write(self, data: bytes) -> None:
        """Append whole lines. A full disk loses log lines, never the container."""
        if self.size and self.size + len(data) > MAX_LOG_BYTES:
            self._rotate()
        try:
            self.size += os.write(self.fd, data)
        except OSError:
            return

    def _rotate(self) -> None:
        for number in range(KEPT_LOGS - 1, 0, -1):
            newer = self.path if number == 1 else f"{self.path}.{number - 1}"
            try:
                os.rename(newer, f"{self.path}.{number}")  # noqa: PTH104 - pathlib costs memory
            except OSError:
                continue
        old = self.fd
        try:
            self._open()
            os.close(old)
        except OSError:
            self.fd = old


class Stream:
    """One pipe of the container, cut into lines of bounded length."""

    def __init__(self, fd: int, name: bytes) -> None:
        self.fd = fd
        self.name = name
        self.rest = b""

    def pump(self, log: Log) -> bool:
        """Move what is there into the log; False once the pipe is closed."""
        data = os.read(self.fd, READ_BYTES)
        self.take(data, log)
        return bool(data)

    def take(self, data: bytes, log: Log) -> None:
        """Log the whole lines; no data means the end, which makes the rest a line."""
        lines = (self.rest + data).split(b"\n")
        self.rest = lines.pop()
        head = _timestamp() + b" " + self.name
        out: list[bytes] = []
        for line in lines:
            self._cut(line, head, out, whole=True)
        if len(self.rest) >= MAX_LINE_BYTES or (not data and self.rest):
            self.rest = self._cut(self.rest, head, out, whole=not data)
        if out:
            log.write(b"".join(out))

    def show(self, log: Log) -> None:
        """Log a line that has waited for its end, as a piece: a prompt or a progress bar shall be seen."""
        if self.rest:
            log.write(_timestamp() + b" " + self.name + b" P " + self.rest + b"\n")
            self.rest = b""

    def _cut(self, line: bytes, head: bytes, out: list[bytes], *, whole: bool) -> bytes:
        start = 0
        while len(line) - start > MAX_LINE_BYTES or (not whole and len(line) - start == MAX_LINE_BYTES):
            out.append(head + b" P " + line[start : start + MAX_LINE_BYTES] + b"\n")
            start += MAX_LINE_BYTES
        if whole:
            out.append(head + b" F " + line[start:] + b"\n")
            return b""
        return line[start:]


def _timestamp() -> bytes:
    now = time.time_ns()
    second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1_000_000_000))
    return f"{second}.{now % 1_000_000_000:09d}Z".encode()


def _start_of(pid: int) -> int:
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except OSError:
        return 0
    try:
        return int(os.read(fd, 4096).rpartition(b")")[2].split()[19])
    finally:
        os.close(fd)


def _prctl(option: int, value: int) -> None:
    if sys.platform != "linux":
        return
    import ctypes  # noqa: PLC0415 - only where it exists, and half a megabyte that macOS need not pay

    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _write_atomically(path: str, text: str) -> None:
    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(fd, text.encode())
    os.close(fd)
    os.rename(path + ".new", path)  # noqa: PTH104 - pathlib costs memory


def _become(spec: Spec, shim: int, out: int, err: int, failure: int, go: int) -> None:
    """In the forked child: turn into the container once `go` has a byte. Returns never; what went wrong is written to `failure`."""
    what = "exec"
    try:
        os.setsid()
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != shim or not os.read(go, 1):
            os._exit(1)
        if spec.cgroup:
            what = "cgroup"
            fd = os.open(spec.cgroup + b"/cgroup.procs", os.O_WRONLY)
            os.write(fd, b"0")
            os.close(fd)
        what = "chdir"
        os.chdir(spec.cwd)
        what = "exec"
        os.dup2(out, 1)
        os.dup2(err, 2)
        for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        os.execve(spec.argv[0], spec.argv, spec.env)  # noqa: S606 - no shell is the point
    except OSError as error:
        os.write(failure, f"{error.errno} {what}".encode())
    os._exit(127)


def _keep(pipe: int, group: int) -> None:
    """The keeper: sleeps until the shim is gone, then kills the container's group. Never returns."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    if not os.read(pipe, 1):
        _kill_group(group)
    os._exit(0)


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        return


class Shim:
    """One container's life: start, pump, reap, record."""

    def __init__(self, folder: str, spec: Spec) -> None:
        self.folder = folder
        self.spec = spec
        self.child = 0
        self.keeper = 0
        self.status: int | None = None
        self.started_at = 0.0
        self.log = Log(f"{folder}/log")
        self.streams: dict[int, Stream] = {}
        self.wake = -1
        self.keeper_pipe = -1

    def start(self) -> str:
        """Fork the container; "" or `ERRNO what`."""
        _prctl(PR_SET_CHILD_SUBREAPER, 1)
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        failed_read, failed_write = os.pipe()
        go_read, go_write = os.pipe()
        shim = os.getpid()
        self.child = os.fork()
        if self.child == 0:
            os.close(go_write)
            _become(self.spec, shim, out_write, err_write, failed_write, go_read)
        for fd in (out_write, err_write, failed_write, go_read):
            os.close(fd)
        self.started_at = time.time()
        self._listen()
        record = f"{self.folder}/pid"
        _write_atomically(
            record,
            f"{shim} {_start_of(shim)} {self.child} {_start_of(self.child)} {self.started_at:.6f}\n",
        )
        os.write(go_write, b".")
        os.close(go_write)
        failure = os.read(failed_read, 256).decode()
        os.close(failed_read)
        if failure:
            os.waitpid(self.child, 0)
            os.unlink(record)  # noqa: PTH108 - pathlib costs memory
            return failure
        self._start_keeper((out_read, err_read))
        self.streams = {out_read: Stream(out_read, b"stdout"), err_read: Stream(err_read, b"stderr")}
        return ""

    def _start_keeper(self, unneeded: tuple[int, ...]) -> None:
        pipe_read, self.keeper_pipe = os.pipe()
        self.keeper = os.fork()
        if self.keeper == 0:
            os.close(self.keeper_pipe)
            for fd in (*unneeded, self.log.fd):
                os.close(fd)
            _keep(pipe_read, self.child)
        os.close(pipe_read)

    def _listen(self) -> None:
        self.wake, write = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)

    def run(self) -> None:
        """Pump until the container and all that it left behind are gone, then write the exit record."""
        poll = select.poll()
        for fd in (self.wake, *self.streams):
            poll.register(fd, select.POLLIN)
        self._reap()
        while self.status is None:
            self._turn(poll, IDLE_MS if any(stream.rest for stream in self.streams.values()) else None)
        self._kill_rest()
        self._drain(poll)
        code = os.waitstatus_to_exitcode(self.status)
        exit_code, number = (code, 0) if code >= 0 else (128 - code, -code)
        _write_atomically(
            f"{self.folder}/exit",
            f"{exit_code} {number} {self.started_at:.6f} {time.time():.6f}\n",
        )
        os.write(self.keeper_pipe, b".")

    def _drain(self, poll: select.poll) -> None:
        """Log what the pipes still hold. One that somebody keeps open is left after DRAIN_S."""
        deadline = time.monotonic() + DRAIN_S
        is_last = False
        while self.streams and not is_last:
            # Asked before the read: who stood still for that long reads what is left all the same.
            is_last = time.monotonic() >= deadline
            self._turn(poll, 0 if is_last else 50)
        for stream in self.streams.values():
            stream.take(b"", self.log)

    def _turn(self, poll: select.poll, timeout_ms: float | None) -> None:
        ready = poll.poll(timeout_ms)
        if not ready:
            for stream in self.streams.values():
                stream.show(self.log)
        for fd, _ in ready:
            if fd == self.wake:
                self._on_signals(os.read(self.wake, 512))
            elif not self.streams[fd].pump(self.log):
                poll.unregister(fd)
                os.close(fd)
                del self.streams[fd]

    def _on_signals(self, numbers: bytes) -> None:
        if signal.SIGCHLD in numbers:
            self._reap()
        if self.status is not None:
            return
        if signal.SIGUSR1 in numbers:
            _kill_group(self.child)
        elif signal.SIGTERM in numbers:
            os.kill(self.child, self.spec.stop_signal)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.child:
                self.status = status

    def _kill_rest(self) -> None:
        """Kill what the first process left: its group, and (as subreaper) whoever became our child."""
        _kill_group(self.child)
        for _ in range(KILL_ROUNDS):
            self._reap()
            left = self._children()
            if not left:
                return
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            time.sleep(KILL_ROUND_S)

    def _children(self) -> list[int]:
        try:
            fd = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
        except OSError:
            return []
        pids = [int(pid) for pid in os.read(fd, 65536).split()]
        os.close(fd)
        return [pid for pid in pids if pid != self.keeper]


def main() -> None:
    """Read the specification, leave the caller's session, report once, then live as long as the container."""
    spec = Spec(sys.stdin.buffer.read())
    if not spec.complete:
        sys.exit("the specification is incomplete")
    report_read, report_write = os.pipe()
    if os.fork() > 0:
        os.close(report_write)
        report = b""
        while not report.endswith(b"\n") and (chunk := os.read(report_read, 512)):
            report += chunk
        os.write(1, report or b"error 0 shim\n")
        os._exit(0)
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    shim = Shim(sys.argv[1], spec)
    failure = shim.start()
    os.write(report_write, f"error {failure}\n".encode() if failure else f"started {shim.child}\n".encode())
    os.close(report_write)
    if not failure:
        shim.run()


if __name__ == "__main__":
    main()
