"""What a disk may hold after a power cut, worked out from the trace of interpose.c.

A trace is turned into operations: pieces of data (one per 4 KiB block), metadata (sizes, names, collapses) and syncs. At a
moment of the cut each piece of data that no sync has made durable may be there or not, in any combination. Metadata:

  ordered  as ext4's and XFS's journals do: one sequence, of which a prefix is there; a sync of a file or folder makes
           the prefix up to its last change durable.
  strict   as POSIX promises and no more: each folder and each file has its own prefix; only its own sync makes it durable.

A size that grew without the data under it reads as zeros (ext4 with delayed allocation, XFS). A block that a write
went to before an unfinished collapse is found where it was before the collapse. A truncation clears the rest of the last
block, and that may be on disk before the new size is."""

import os
import random

BLOCK = 4096
FALLOC_KEEP_SIZE, FALLOC_PUNCH, FALLOC_COLLAPSE, FALLOC_ZERO = 1, 2, 8, 16


class Op:
    __slots__ = ("kind", "ino", "group", "args", "meta")

    def __init__(self, kind, ino, group, *args):
        self.kind, self.ino, self.group, self.args, self.meta = kind, ino, group, args, -1


def read_trace(path):
    with open(path, "rb") as f:
        data = f.read()
    at = 0
    while at < len(data):
        end = data.index(b"\n", at)
        op, ino, a, b, n = data[at:end].split()
        n = int(n)
        yield op.decode(), int(ino), int(a), int(b), data[end + 1:end + 1 + n]
        at = end + 2 + n


class Disk:
    """Files, names and folders while operations are applied to them. Contents are shared with the copy until one is
    written to."""

    def __init__(self, model):
        self.contents = dict(model.first_files)
        self.names, self.mtime, self.lost = dict(model.first_names), dict(model.first_mtime), {}
        made = {o.args[0] for o in model.ops if o.kind in ("mkdir", "renamedir")}
        self.dirs = {d for d in model.dirs if d not in made}

    def copy(self):
        other = object.__new__(Disk)
        for ino, content in self.contents.items():
            self.contents[ino] = bytes(content)
        other.contents, other.names, other.mtime = dict(self.contents), dict(self.names), dict(self.mtime)
        other.lost, other.dirs = {}, set(self.dirs)
        return other

    def content(self, ino):
        """To be written to."""
        content = self.contents.get(ino, b"")
        if isinstance(content, bytes):
            content = self.contents[ino] = bytearray(content)
        return content

    def files(self):
        out = {}
        for rel, ino in self.names.items():
            if os.path.dirname(rel) in self.dirs or os.path.dirname(rel) == "":
                out[rel] = (bytes(self.contents.get(ino, b"")), self.mtime.get(ino), 0o600)
        return out, sorted(d for d in self.dirs if d != ".")


class Model:
    def __init__(self, snapshot, trace):
        self.root = snapshot.root
        self.serial = 0
        self.first_files, self.first_names, self.first_mtime = {}, {}, {}
        self.dirs = set(snapshot.dirs) | {"."}
        self.now = {}     # inode number -> our number
        self.sizes = {}   # our number -> size at this point of the trace
        for rel, (data, mtime, mode, ino) in snapshot.files.items():
            if ino not in self.now:
                self.new_inode(ino)
            i = self.now[ino]
            self.first_files[i], self.first_names[rel], self.first_mtime[i] = data, i, mtime
            self.sizes[i] = len(data)
        self.ops = []
        self.build(trace)
        self.metas = [op for op in self.ops if op.meta >= 0]

    def new_inode(self, ino):
        self.serial += 1
        self.now[ino] = self.serial
        self.sizes[self.serial] = 0
        return self.serial

    def rel(self, path):
        return os.path.relpath(path.decode(), self.root)

    def meta(self, kind, ino, group, *args):
        op = Op(kind, ino, group, *args)
        op.meta = sum(1 for o in self.ops if o.meta >= 0)
        self.ops.append(op)

    def name_op(self, kind, ino, path, *args):
        self.meta(kind, ino, "dir:" + os.path.dirname(path), path, *args)

    def set_size(self, ino, size):
        old = self.sizes[ino]
        if size < old and size % BLOCK:
            end = min(old, size - size % BLOCK + BLOCK)
            self.ops.append(Op("data", ino, None, size, bytes(end - size)))
        if size != old:
            self.meta("size", ino, "file:%d" % ino, size, old)
        self.sizes[ino] = size

    def write(self, ino, off, data):
        if off + len(data) > self.sizes[ino]:
            self.set_size(ino, off + len(data))
        at = 0
        while at < len(data):
            n = min(len(data) - at, BLOCK - (off + at) % BLOCK)
            self.ops.append(Op("data", ino, None, off + at, data[at:at + n]))
            at += n

    def fallocate(self, ino, off, length, mode):
        if mode & FALLOC_COLLAPSE:
            self.meta("collapse", ino, "file:%d" % ino, off, length)
            self.sizes[ino] -= length
        elif mode & (FALLOC_PUNCH | FALLOC_ZERO):
            self.write(ino, off, bytes(min(length, max(self.sizes[ino] - off, 0))))
        elif not mode & FALLOC_KEEP_SIZE and off + length > self.sizes[ino]:
            self.set_size(ino, off + length)

    def build(self, trace):
        moved = None
        for kind, number, a, b, data in trace:
            if kind == "ack":
                self.ops.append(Op("ack", 0, None, data))
                continue
            if kind in ("create", "inode"):
                ino = self.new_inode(number)
                if kind == "create":
                    self.name_op("link", ino, self.rel(data))
                continue
            ino = self.now.get(number, 0)
            if kind == "write":
                self.write(ino, a, data)
            elif kind == "size":
                self.set_size(ino, a)
            elif kind == "fallocate":
                self.fallocate(ino, a, b, int.from_bytes(data, "little"))
            elif kind == "mtime":
                self.ops.append(Op("mtime", ino, None, a * 1000000000 + b))
            elif kind == "link":
                self.name_op("link", ino, self.rel(data))
            elif kind == "unlink":
                self.name_op("unlink", ino, self.rel(data))
            elif kind == "mkdir":
                self.dirs.add(self.rel(data))
                self.name_op("mkdir", 0, self.rel(data))
            elif kind == "rmdir":
                self.name_op("rmdir", 0, self.rel(data))
            elif kind in ("rename", "renamedir"):
                moved = self.rel(data)
            elif kind == "to":
                if self.rel(data) in self.dirs or moved in self.dirs:
                    self.dirs.add(self.rel(data))
                    self.name_op("renamedir", 0, self.rel(data), moved)
                else:
                    self.name_op("rename", ino, self.rel(data), moved)
            elif kind in ("fsync", "fdatasync"):
                path = self.rel(data)
                self.ops.append(Op("sync", ino, "dir:" + ("" if path == "." else path) if path in self.dirs else "file:%d" % ino))
            elif kind == "symlink":
                raise ValueError("symlinks are not expected below the folder")

    # ---- what is durable at a moment ----

    def durable(self, end, strict):
        """Per group: how many of the leading metadata operations are durable (ordered: the one group ""); set of data
        operations (indexes) that are."""
        marks, data, last = {}, set(), {}
        for i, op in enumerate(self.ops[:end]):
            if op.meta >= 0:
                last[op.group] = op.meta + 1
                if not strict and op.ino:
                    last["file:%d" % op.ino] = op.meta + 1
                if op.kind == "collapse": # it writes back what lies behind its start first
                    data |= {j for j in range(i) if self.ops[j].kind == "data" and self.ops[j].ino == op.ino}
            elif op.kind == "sync":
                key = op.group if strict else ""
                marks[key] = max(marks.get(key, 0), last.get(op.group, 0))
                if op.group.startswith("file:"):
                    data |= {j for j in range(i) if self.ops[j].kind == "data" and self.ops[j].ino == op.ino}
        return marks, data

    def moments(self):
        """Where the current may fail: just before each sync, and at the end."""
        return [i for i, op in enumerate(self.ops) if op.kind == "sync"] + [len(self.ops)]

    # ---- states ----

    def settled(self, end, marks, safe, strict):
        """What every state at this moment begins with: the files after the operations that are all durable."""
        disk = Disk(self)
        for index, op in enumerate(self.ops[:end]):
            durable = index in safe if op.kind == "data" else op.meta < marks.get(op.group if strict else "", 0) if op.meta >= 0 else True
            if not durable:
                return index, disk
            self.step(disk, index, op, None, True, True, "latest")
        return end, disk

    def step(self, disk, index, op, cut_size, is_there, applied, mtimes):
        """One operation, and whether what came last did reach the disk."""
        if op.kind == "data":
            if is_there:
                self.put(disk.content(op.ino), op, disk.lost.get(op.ino, ()))
            return is_there
        if op.kind == "mtime":
            if (mtimes == "applied" and applied) or mtimes == "latest":
                disk.mtime[op.ino] = op.args[0]
        elif op.meta >= 0:
            if not is_there:
                disk.lost.setdefault(op.ino, []).append(op)
                return False
            self.apply(op, disk, cut_size if cut_size and cut_size[0] is op else None)
            return True
        return applied

    def state(self, end, begin, has_meta, has_data, cut_size=None, mtimes="applied"):
        """The files if exactly these operations before `end` reached the disk, `begin` being what settled() says of it.
        has_meta(op), has_data(index)."""
        first, disk = begin[0], begin[1].copy()
        if mtimes == "first":
            disk.mtime = dict(self.first_mtime)
        applied = True
        for index in range(first, end):
            op = self.ops[index]
            is_there = has_data(index) if op.kind == "data" else op.meta < 0 or has_meta(op)
            applied = self.step(disk, index, op, cut_size, is_there, applied, mtimes)
        return disk.files()

    @staticmethod
    def put(content, op, lost):
        off, data = op.args
        for skipped in reversed(lost):
            if skipped.kind == "collapse" and off >= skipped.args[0]:
                off += skipped.args[1]
            elif skipped.kind == "size" and skipped.args[0] < skipped.args[1] and off // BLOCK > skipped.args[0] // BLOCK:
                return # went into blocks that the lost truncation was to make new
        data = data[:max(len(content) - off, 0)]
        content[off:off + len(data)] = data

    @staticmethod
    def apply(op, disk, cut_size):
        names, dirs = disk.names, disk.dirs
        if op.kind == "size":
            content = disk.content(op.ino)
            size = cut_size[1] if cut_size else op.args[0]
            if size < len(content):
                del content[size:]
            else:
                content.extend(bytes(size - len(content)))
        elif op.kind == "collapse":
            content = disk.content(op.ino)
            del content[op.args[0]:op.args[0] + op.args[1]]
        elif op.kind == "link":
            names[op.args[0]] = op.ino
        elif op.kind == "unlink":
            names.pop(op.args[0], None)
        elif op.kind == "rename":
            if op.args[1] in names:
                names[op.args[0]] = names.pop(op.args[1])
        elif op.kind == "mkdir":
            dirs.add(op.args[0])
        elif op.kind == "rmdir":
            dirs.discard(op.args[0])
        elif op.kind == "renamedir":
            old, new = op.args[1], op.args[0]
            for d in [d for d in dirs if d == old or d.startswith(old + "/")]:
                dirs.discard(d)
                dirs.add(new + d[len(old):])
            for n in [n for n in names if n.startswith(old + "/")]:
                names[new + n[len(old):]] = names.pop(n)

    def choices_of_data(self, pending, rng, budget):
        yield frozenset()
        yield frozenset(pending)
        singles = pending if len(pending) <= budget else rng.sample(pending, budget)
        for i in singles:
            yield frozenset([i])
            yield frozenset(pending) - {i}
        for _ in range(budget):
            yield frozenset(i for i in pending if rng.random() < 0.5)

    def choices_of_meta(self, end, marks, strict, rng, budget):
        """Yields (predicate, the last chosen operation or None)."""
        metas = [op for op in self.ops[:end] if op.meta >= 0]
        if not strict:
            low = marks.get("", 0)
            for p in range(low, len(metas) + 1):
                yield (lambda op, p=p: op.meta < p), (metas[p - 1] if p > low else None)
            return
        groups = {}
        for op in metas:
            groups.setdefault(op.group, []).append(op.meta)
        free = {g: [marks.get(g, 0)] + [m + 1 for m in ms if m + 1 > marks.get(g, 0)] for g, ms in groups.items()}
        vectors = [{g: f[0] for g, f in free.items()}, {g: f[-1] for g, f in free.items()}]
        for g in free:
            if len(free[g]) > 1:
                vectors.append({**vectors[0], g: free[g][-1]})
                vectors.append({**vectors[1], g: free[g][0]})
        vectors += [{g: rng.choice(f) for g, f in free.items()} for _ in range(budget)]
        for v in vectors:
            yield (lambda op, v=v: op.meta < v.get(op.group, 0)), None

    def states(self, strict=False, budget=4, seed=1):
        """Yields (acknowledgements so far, files, dirs) for every chosen legal state, each once."""
        rng, seen = random.Random(seed), set()
        for end in self.moments():
            marks, safe = self.durable(end, strict)
            pending = [i for i, op in enumerate(self.ops[:end]) if op.kind == "data" and i not in safe]
            begin = self.settled(end, marks, safe, strict)
            acked = b"".join(op.args[0] for op in self.ops[:end] if op.kind == "ack")
            for has_meta, last in self.choices_of_meta(end, marks, strict, rng, budget):
                cuts = [None]
                if last is not None and last.kind == "size" and last.args[0] - last.args[1] > BLOCK:
                    cuts += [(last, last.args[1] // BLOCK * BLOCK + BLOCK), (last, (last.args[0] - 1) // BLOCK * BLOCK)]
                for chosen in self.choices_of_data(pending, rng, budget):
                    for cut in cuts:
                        mtimes = rng.choice(("applied", "latest", "first"))
                        files, dirs = self.state(end, begin, has_meta, lambda i: i in safe or i in chosen, cut, mtimes)
                        key = (acked, tuple(sorted((n, e[0]) for n, e in files.items())), tuple(dirs))
                        key = hash(key)
                        if key not in seen:
                            seen.add(key)
                            yield acked, files, dirs
