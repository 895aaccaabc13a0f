"""Machines to test on, made of namespaces: a Debian 12 root from debootstrap, kept in a cache, under an overlay that is
thrown away; own mounts, network (loopback only), processes, accounts. Nothing of the host is changed or reached.
"""
import atexit
import fcntl
import hashlib
import os
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
RELEASE = "bookworm"
HOST_ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root", "TERM": "vt100",
            "DEBIAN_FRONTEND": "noninteractive"}
PASSWORDS = {"alice": "wonder land\"\\1", "bob": "b0b-builder", "carol": "CarolsPassword3"}


class Tests:
    """Counts results and prints what a runner needs: a line per failure, and the closing line."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def check(self, name, good, detail=""):
        if good:
            self.passed += 1
            print("pass  %s" % name)
        else:
            self.failed += 1
            print("FAIL  %s%s" % (name, ": " + str(detail)[-3000:] if detail else ""))
        sys.stdout.flush()
        return bool(good)

    def attempt(self, function, *arguments):
        """What it returns. What it raises is one failed check, and what comes behind it is tried all the same."""
        try:
            return function(*arguments)
        except Exception as e:  # pylint: disable=broad-except
            self.check("%s comes to its end" % function.__name__, False, "%s\n%s" % (
                repr(e)[:300].replace("\n", " "), traceback.format_exc()[-2500:]))
            return None

    def skip(self, name, why):
        self.skipped += 1
        print("SKIP  %s: %s" % (name, why), flush=True)

    def absorb(self, name, completed):
        """Takes over the counts of another program that closes with N passed, N failed."""
        text = completed.stdout
        closing = re.findall(r"^(\d+) passed, (\d+) failed", text, re.M)
        is_shown = False
        for line in text.splitlines():
            is_shown = line.startswith(("FAIL", "SKIP")) or (is_shown and not line.startswith("pass"))
            if is_shown:
                print("      %s | %s" % (name, line))
        if not closing:
            self.check(name, False, "no closing line; exit %d\n%s" % (completed.returncode, text[-3000:]))
            return
        passed, failed = map(int, closing[-1])
        self.passed += passed
        self.failed += failed
        if completed.returncode and not failed:
            self.check(name, False, "exit %d" % completed.returncode)
        print("      %s: %d passed, %d failed" % (name, passed, failed), flush=True)

    def close(self):
        print("%d passed, %d failed%s" % (self.passed, self.failed,
                                          ", %d skipped" % self.skipped if self.skipped else ""))
        sys.exit(1 if self.failed or not (self.passed or self.skipped) else 0)

    def machine(self, name, make):
        """make(), which builds a machine to test on. Where this host cannot do that, the test is skipped and says why."""
        try:
            return make()
        except (RuntimeError, OSError, subprocess.SubprocessError) as e:
            self.skip(name, "no machine to test on can be made here: %s" % str(e).strip().replace("\n", " | ")[-600:])
            self.close()
            return None


def run(argv, timeout=300, check=False, env=None, **more):
    """The finished process. One that takes too long is ended, with the status that timeout(1) has for it."""
    try:
        done = subprocess.run(argv, stdin=more.pop("stdin", subprocess.DEVNULL) if "input" not in more else None,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, text=True,
                              errors="replace", env=env or HOST_ENV, check=False, **more)
    except subprocess.TimeoutExpired as e:
        said = e.stdout or ""
        said = said if isinstance(said, str) else said.decode("utf-8", "replace")
        done = subprocess.CompletedProcess(argv, 124, "%s\nstopped after %d s: %s" % (said, timeout, " ".join(argv)))
    if check and done.returncode:
        raise RuntimeError("%s: exit %d\n%s" % (" ".join(argv), done.returncode, done.stdout[-3000:]))
    return done


def packages(*groups):
    names = []
    with open(os.path.join(TREE, "units", "packages"), encoding="ascii") as f:
        for line in f:
            group, _, rest = line.partition(": ")
            if group in groups:
                names += rest.split()
    return names


# ---- roots ----

def cache_dir():
    path = os.path.join(os.environ.get("TMPDIR", "/var/tmp"), "pennypost-test-roots")
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        pass
    st = os.lstat(path)
    if not stat.S_ISDIR(st.st_mode) or st.st_uid != os.geteuid() or st.st_mode & 0o022:
        sys.exit("%s is not a folder of ours" % path)
    return path


def mirror():
    """Where this machine gets its packages from."""
    done = run(["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)"])
    for line in done.stdout.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == RELEASE:
            return words[1]
    raise RuntimeError("apt on this machine knows no %s" % RELEASE)


def root(kind):
    """`base`: what debootstrap makes. `full`: with everything that builds, serves and tests. Built once and cached."""
    wanted = sorted(set(packages("build", "run", "test", "root")))
    unpacked = packages("unpacked")
    stamp = hashlib.sha256((kind + " ".join(wanted + unpacked if kind == "full" else [])).encode()).hexdigest()[:12]
    path = os.path.join(cache_dir(), "%s-%s" % (kind, stamp))
    with open(os.path.join(cache_dir(), "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.isdir(path):
            os.utime(path)
            return path
        for old in os.listdir(cache_dir()):  # of other package lists, not used since yesterday
            there = os.path.join(cache_dir(), old)
            if old.startswith(kind + "-") and os.stat(there).st_mtime < time.time() - 86400:
                shutil.rmtree(there, ignore_errors=True)
        building = path + ".new"
        shutil.rmtree(building, ignore_errors=True)
        print("-- making a %s root (once): %s" % (kind, path), flush=True)
        if kind == "base":
            run(["debootstrap", RELEASE, building, mirror()], timeout=1500, check=True)
        else:
            run(["cp", "-a", root_path_locked("base"), building], check=True)
            shutil.copy("/etc/resolv.conf", building + "/etc/resolv.conf")
            with open(building + "/usr/sbin/policy-rc.d", "w", encoding="ascii") as f:
                f.write("#!/bin/sh\nexit 101\n")  # no package may start a server while we install
            os.chmod(building + "/usr/sbin/policy-rc.d", 0o755)
            run(["chroot", building, "apt-get", "-q", "update"], timeout=600, check=True)
            run(["chroot", building, "apt-get", "-q", "-y", "-o", "Acquire::Retries=5", "--no-install-recommends", "install"] +
                wanted,
                timeout=1500, check=True)
            run(["chroot", building, "sh", "-ec", "cd /root; apt-get -q download %s; "
                 "for p in *.deb; do dpkg --fsys-tarfile $p | tar -x --keep-directory-symlink -C /; done; "
                 "rm -f *.deb; systemctl disable inetd knot unbound" % " ".join(unpacked)], timeout=600, check=True)
            os.unlink(building + "/usr/sbin/policy-rc.d")
        os.rename(building, path)
    return path


def root_path_locked(kind):
    """As root(), from inside it: the lock is held already."""
    stamp = hashlib.sha256(kind.encode()).hexdigest()[:12]
    path = os.path.join(cache_dir(), "%s-%s" % (kind, stamp))
    if not os.path.isdir(path):
        shutil.rmtree(path + ".new", ignore_errors=True)
        run(["debootstrap", RELEASE, path + ".new", mirror()], timeout=1500, check=True)
        os.rename(path + ".new", path)
    return path


# ---- one throw-away machine ----

def isolate():
    """Runs the calling script again in namespaces of its own and does not return in the outer one."""
    if os.environ.get("PENNYPOST_ISOLATED"):
        return
    env = dict(os.environ, PENNYPOST_ISOLATED="1")
    # The first process of a pid namespace has to reap; this one does nothing else.
    reaper = "import os,sys\npid=os.fork()\nif pid==0: os.execv(sys.argv[1],sys.argv[1:])\nwhile True:\n" \
             "  p,s=os.wait()\n  if p==pid: os._exit(os.waitstatus_to_exitcode(s)&255)"
    child = subprocess.Popen(["unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child",
                              "--mount-proc", "--propagation", "private", sys.executable, "-c", reaper,
                              sys.executable] + sys.argv, env=env)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: child.kill())
    sys.exit(child.wait())


class World:
    """An overlay over a cached root. Start inside isolate() (not for containers that systemd-nspawn isolates)."""

    def __init__(self, kind, is_live=True):
        self.base = root(kind)
        self.scratch = tempfile.mkdtemp(prefix="pennypost-world-", dir=os.environ.get("TMPDIR", "/var/tmp"))
        os.chmod(self.scratch, 0o755)
        atexit.register(self.remove)
        self.root = os.path.join(self.scratch, "root")
        self.mounts = []
        self.log_lines = []
        self.is_live = is_live
        self._overlay()
        if is_live:
            self._devices()
            run(["ip", "link", "set", "lo", "up"], check=True)
            run(["hostname", "mail"])
        self.write("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 mail.example.test mail\n")
        self.write("/etc/hostname", "mail\n")
        # No server answers there: a lookup fails at once instead of asking the world outside.
        self.write("/etc/resolv.conf", "nameserver 127.0.0.53\noptions timeout:1 attempts:1\n")

    def _mount(self, *words):
        run(["mount"] + list(words), check=True)
        self.mounts.append(words[-1])

    def _overlay(self):
        os.mkdir(self.root)
        for where in (self.scratch, None):
            if where is None:  # the disk here is an overlay itself
                self._mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", self.scratch)
                where = self.scratch
                os.mkdir(self.root)
            upper, work = os.path.join(where, "upper"), os.path.join(where, "work")
            os.mkdir(upper)
            os.mkdir(work)
            os.chmod(upper, 0o755)
            done = run(["mount", "-t", "overlay", "overlay", "-o",
                        "lowerdir=%s,upperdir=%s,workdir=%s" % (self.base, upper, work), self.root])
            if done.returncode == 0:
                self.upper = upper
                self.mounts.append(self.root)
                return
        raise RuntimeError("no overlay: " + done.stdout)

    def _devices(self):
        self._mount("-t", "proc", "proc", self.root + "/proc")
        self._mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", self.root + "/run")
        self._mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", self.root + "/dev")
        for name, major, minor in (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9),
                                   ("tty", 5, 0)):
            os.mknod(self.root + "/dev/" + name, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
            os.chmod(self.root + "/dev/" + name, 0o666)
        os.mkdir(self.root + "/dev/pts")
        os.mkdir(self.root + "/dev/shm", 0o1777)
        self._mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=0620,gid=5", "devpts", self.root + "/dev/pts")
        for name, target in (("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"),
                             ("stderr", "fd/2")):
            os.symlink(target, self.root + "/dev/" + name)

    def remove(self):
        for where in reversed(self.mounts):
            run(["umount", "-l", where])
        self.mounts = []
        shutil.rmtree(self.scratch, ignore_errors=True)

    # ---- files and commands inside ----

    def write(self, path, text, mode=0o644, how="w"):
        full = self.root + path
        if os.path.islink(full):
            os.unlink(full)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, how, encoding="utf-8", newline="") as f:
            f.write(text)
        os.chmod(full, mode)

    def read(self, path):
        with open(self.root + path, encoding="utf-8", errors="surrogateescape", newline="") as f:
            return f.read()

    def command(self, argv, user=None):
        """The argv that runs argv inside."""
        inner = ["runuser", "-u", user, "--"] + list(argv) if user else list(argv)
        return ["chroot", self.root] + inner

    def run(self, argv, user=None, **more):
        env = dict(HOST_ENV, **more.pop("env", {}))
        if user:
            env["HOME"] = "/home/" + user
        return run(self.command(argv, user), env=env, **more)

    def start(self, argv, env=None, **more):
        return subprocess.Popen(self.command(argv), stdin=subprocess.DEVNULL, env=dict(HOST_ENV, **(env or {})), **more)

    def syslog(self):
        """Takes the place of syslogd: what programs log is in self.log_lines."""
        log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        here = os.getcwd()
        os.chdir(self.root + "/dev")
        log.bind("log")
        os.chdir(here)
        os.chmod(self.root + "/dev/log", 0o666)
        log.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)

        def collect():
            while True:
                self.log_lines.append(log.recv(65536).decode("utf-8", "replace"))
        threading.Thread(target=collect, daemon=True).start()

    def traces(self, *more):
        """Paths that an installation may leave: everything of that name but caches, logs and the like."""
        found = set()
        for top in ("/usr", "/etc", "/var/lib/pennypost", "/var/spool", "/var/mail", "/run/pennypost") + more:
            for folder, _, names in os.walk(self.root + top):
                for name in names + [""]:
                    found.add(os.path.join(folder, name)[len(self.root):])
        return {p for p in found if "pennypost" in p}

    def copy_tree(self, where):
        """The source tree as a fresh clone would have it: what git knows, and what is new and not ignored."""
        os.makedirs(self.root + where, exist_ok=True)
        listed = run(["git", "-c", "safe.directory=*", "-C", TREE, "ls-files", "-co", "--exclude-standard"])
        names = [n for n in listed.stdout.splitlines() if os.path.lexists(os.path.join(TREE, n))]
        if listed.returncode or not names:
            run(["cp", "-a", TREE + "/.", self.root + where], check=True)
            run(["sh", "-c", "rm -rf %s%s/build*" % (self.root, where)])
            return
        for name in names:
            target = os.path.join(self.root + where, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy2(os.path.join(TREE, name), target, follow_symlinks=False)

    def add_users(self):
        for name in PASSWORDS:
            self.run(["useradd", "--create-home", "--shell", "/bin/bash", name], check=True)
        self.run(["chpasswd", "--crypt-method", "YESCRYPT"], input="".join("%s:%s\n" % p for p in PASSWORDS.items()), check=True)

    def install_build(self, build):
        """Puts a build of the host into this machine, as units/install does without building anew."""
        run(["meson", "install", "--no-rebuild", "-C", build], env=dict(HOST_ENV, DESTDIR=self.root), check=True)
        self.run(["systemd-sysusers", "pennypost.conf"], check=True)
        self.run(["systemd-tmpfiles", "--create", "pennypost.conf"], check=True)
        os.makedirs(self.root + "/etc/pennypost", exist_ok=True)
        self.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                  "-subj", "/CN=mail.example.test", "-addext", "subjectAltName=DNS:mail.example.test",
                  "-keyout", "/etc/pennypost/key.pem", "-out", "/etc/pennypost/certificate.pem"], check=True)
        os.chmod(self.root + "/etc/pennypost/key.pem", 0o600)
        self.write("/etc/pennypost/pennypost.conf", "hostname = mail.example.test\n")

    def clients(self, *arguments, timeout=1500):
        """Runs clients.py inside (its Python, its clients)."""
        os.makedirs(self.root + "/srv/e2e", exist_ok=True)
        for name in os.listdir(HERE):
            if name.endswith(".py"):
                shutil.copy(os.path.join(HERE, name), self.root + "/srv/e2e/" + name)
        return self.run(["python3", "/srv/e2e/clients.py"] + list(arguments), timeout=timeout,
                        env={"PYTHONDONTWRITEBYTECODE": "1"})


def ours(proc="/proc"):
    """[(pid, ppid, uid, name, arguments)] of our processes that live, as seen through this /proc."""
    found = []
    for pid in filter(str.isdigit, os.listdir(proc)):
        try:
            exe = os.readlink("%s/%s/exe" % (proc, pid))
            status = dict(line.split(":\t", 1) for line in open("%s/%s/status" % (proc, pid), encoding="ascii",
                                                                errors="replace").read().splitlines() if ":\t" in line)
            with open("%s/%s/cmdline" % (proc, pid), "rb") as f:
                arguments = f.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            continue
        if "/libexec/pennypost/" in exe:
            found.append((int(pid), int(status["PPid"]), int(status["Uid"].split()[0]), os.path.basename(exe), arguments))
    return sorted(found)


def parts():
    """{name: (pid, uid)} of our processes. The keeper is `keeper`; a second one of a name has a + behind it: also a child
    that has not yet become what it will be."""
    found = {}
    for pid, _, uid, name, arguments in ours():
        name = "keeper" if "--keeper" in arguments else name
        while name in found:
            name += "+"
        found[name] = (pid, uid)
    return found


def settled(*wanted):
    """Waits until our processes are exactly these. What there is then, as parts()."""
    found = {}

    def look():
        found.clear()
        found.update(parts())
        return set(found) == set(wanted)
    wait_until(look)
    return found


def open_files(pid):
    """{descriptor: what it leads to} of a process that lives; what it closes while we look is left out."""
    found = {}
    for fd in os.listdir("/proc/%d/fd" % pid):
        try:
            found[fd] = os.readlink("/proc/%d/fd/%s" % (pid, fd))
        except FileNotFoundError:
            continue
    return found


def kill(pid, number=signal.SIGKILL):
    """Sends a signal to a process that may have left by itself meanwhile."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def free_port():
    """A port of 127.0.0.1 that is free, and none of those that the kernel gives to whoever asks for any: it stays free."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as f:
        first = max(int(f.read().split()[0]), 12000)
    for _ in range(200):
        with socket.socket() as s:
            port = random.SystemRandom().randrange(first - 10000, first)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise OSError("no free port")


def wait_until(test, seconds=60.0, step=0.1):
    until = time.monotonic() + seconds
    while True:
        value = test()
        if value or time.monotonic() > until:
            return value
        time.sleep(step)
