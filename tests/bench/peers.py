"""The peers: Debian's packages, unpacked into a folder and laid over /usr in a mount namespace of our own.

Nothing is installed: no package script runs and no daemon starts. Needs root for the namespace and an apt cache.
"""
import os
import subprocess
import sys

PACKAGES = {
    "dovecot": ["dovecot-imapd", "dovecot-pop3d"],
    "dovecot-submission": ["dovecot-submissiond"],
    "mailutils": ["mailutils-imap4d", "mailutils-pop3d"],
    "popa3d": ["popa3d"],
    "postfix": ["postfix"],
    "exim": ["exim4-daemon-light"],
    "opensmtpd": ["opensmtpd"],
    "inetd": ["openbsd-inetd"],
    "xinetd": ["xinetd"],
    "fetchmail": ["fetchmail"],
    "opendkim": ["opendkim-tools"],
}
MEASURED = ("dovecot", "mailutils", "popa3d", "postfix", "exim", "opensmtpd", "inetd", "xinetd")
LEFT_OUT = {"mariadb-common", "mysql-common", "exim4-config"}  # configuration that nothing here reads


def _needed(package):
    """Names of the packages that apt would install for one package; [] when it is there already, None: not to be had."""
    plan = subprocess.run(["apt-get", "install", "-s", "--no-install-recommends", package],
                          capture_output=True, text=True, check=False)
    if plan.returncode != 0:
        return None
    return [n for n in (line.split()[1] for line in plan.stdout.splitlines() if line.startswith("Inst "))
            if n not in LEFT_OUT]


def unpack(name, root):
    """Unpacks a peer below root/name; returns the folder, or None when its packages cannot be had."""
    target = os.path.join(root, name)
    if os.path.exists(os.path.join(target, ".complete")):
        return target
    debs = os.path.join(root, name + ".debs")
    os.makedirs(debs, exist_ok=True)
    os.makedirs(target, exist_ok=True)
    for package in PACKAGES[name]:
        names = _needed(package)
        if names is None:
            print(f"bench: {package} cannot be had from apt", file=sys.stderr)
            return None
        if names:
            done = subprocess.run(["apt-get", "download", "-q", *names], cwd=debs, check=False, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
            if done.returncode:
                print(f"bench: {package} cannot be fetched", file=sys.stderr)
                return None
    for deb in sorted(os.listdir(debs)):
        subprocess.run(["dpkg", "-x", os.path.join(debs, deb), target], check=True)
    # Debian's /lib and /sbin are links into /usr: what a package still puts there belongs below the overlay of /usr.
    for top in ("lib", "sbin", "bin"):
        if os.path.isdir(os.path.join(target, top)):
            os.makedirs(os.path.join(target, "usr", top), exist_ok=True)
            subprocess.run(["cp", "-a", os.path.join(target, top, "."), os.path.join(target, "usr", top)], check=True)
    open(os.path.join(target, ".complete"), "w", encoding="ascii").close()
    return target


def overlay_command(folders, command, spool=None, var_spool=None):
    """A command line that runs `command` with the folders laid over /usr, /etc and /var/lib, `spool` bound to /var/mail and
    `var_spool` to /var/spool (with a /run of its own)."""
    steps = []
    for top in ("usr", "etc", "var/lib"):
        lower = ":".join(os.path.join(f, top) for f in folders if os.path.isdir(os.path.join(f, top)))
        if lower:
            steps.append(f"mount -t overlay overlay -o lowerdir={lower}:/{top} /{top}")
    if spool:
        steps.append(f"mount --bind {spool} /var/mail")
    if var_spool:
        steps += [f"mount --bind {var_spool} /var/spool", "mount -t tmpfs tmpfs /run"]
    steps.append('exec "$@"')
    return ["unshare", "-m", "--propagation", "private", "sh", "-c", " && ".join(steps), "sh", *command]
