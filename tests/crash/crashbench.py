"""One scenario of the crash tests: what its boxes may hold after each step, the ways to interrupt it, and the look at what is
left. The modes are described in run-crash.py."""

import errno
import os
import re
import time

import crashlib
import powermodel
import scenarios

UNSEEN = (scenarios.nothing, scenarios.foreign, scenarios.foreign_unended) # seeds that the store has not opened
SHADOW = 1 << 31 # a UIDVALIDITY above it was that of a mailbox whose state could not be used: it lasts as long as the session
BOXES = ["INBOX", "Work", "Play", "New"]


class Bench:
    """One scenario in a folder of its own."""

    plain_times = True # the disk's states are worked out here; what a real disk leaves is looked at as it is

    def __init__(self, build, folder, scenario, quick):
        self.scenario, self.quick = scenario, quick
        self.work = crashlib.Work(build, os.path.join(folder, "root"))
        self.work.skips_sync, self.work.plain_times = True, self.plain_times
        self.files = scenarios.files_of(os.path.join(folder, "messages"))
        self.new_file = os.path.join(folder, "messages", "after")
        with open(self.new_file, "wb") as f:
            f.write(crashlib.message("after", 3000))
        self.trace = os.path.join(folder, "trace")
        self.errors, self.points = [], 0
        self.env = {"CRASH_NO_COLLAPSE": 1} if scenario.no_collapse else {}
        if scenario.room:
            self.env["CRASH_ROOM"] = scenario.room
        self.texts = {}
        for path in list(self.files.values()) + [self.new_file]:
            with open(path, "rb") as f:
                text = f.read()
            self.texts[crashlib.ident_of(text)] = crashlib.wire(text)
        self.work.fresh()
        scenario.seed(self.work, self.files)
        self.settle_index()
        self.start = crashlib.Snapshot(self.work.root)
        self.states = []
        self.make_states()

    # ---- what must be there after each step ----

    def look(self):
        """{box: Box}; an error text when a box cannot be read."""
        self.age_dotlocks()
        if not any(s[0] == "rename" for s in self.scenario.steps):
            return self.work.dumps(self.names())
        out = {}
        for name in BOXES: # looking at one may finish what becomes of another
            if name in self.names():
                box = self.work.dump(name)
                if isinstance(box, str):
                    return "%s: %s" % (name, box)
                out[name] = box
        return out

    def names(self):
        """The boxes that are there; INBOX always is."""
        return [n for n in BOXES if n == "INBOX" or os.path.exists(os.path.join(self.work.root, "mail", n))]

    def is_power_lost(self):
        return self.work.boot is not None

    def age_dotlocks(self):
        """What a power cut leaves keeps everybody out for five minutes (liblockfile), or until the recovery of the boot; here
        they pass at once. What a killed process leaves has to be no hindrance."""
        if not self.is_power_lost():
            return
        for folder in (os.path.dirname(self.work.inbox), os.path.join(self.work.root, "mail")):
            for name in os.listdir(folder) if os.path.isdir(folder) else ():
                if name.endswith(".lock"):
                    os.utime(os.path.join(folder, name), (time.time() - 3600, time.time() - 3600))

    def make_states(self):
        """Runs the steps without a crash and keeps what each leaves."""
        for count in range(len(self.scenario.steps) + 1):
            self.reset()
            if count:
                p = self.work.run(self.scenario.words(self.files, count), options=self.scenario.options, interpose=dict(self.env, CRASH_MODE="kill", CRASH_AT=0))
                if p.returncode != 0:
                    self.errors.append("step %d fails without a crash: %r %r" % (count, p.stdout[-300:], p.stderr[-600:]))
                    return
            boxes = self.look()
            if isinstance(boxes, str):
                self.errors.append("after step %d without a crash: %s" % (count, boxes))
                return
            self.states.append(boxes)
            self.errors += ["after step %d without a crash: %s" % (count, e) for e in self.check_bytes(boxes)]
        if not self.scenario.seed.__name__.startswith("nothing") and not self.states[0]["INBOX"].messages:
            self.errors.append("the seed left an empty box")

    # ---- checks ----

    def check_bytes(self, boxes):
        errors = []
        for name, box in boxes.items():
            path = self.work.inbox if name == "INBOX" else os.path.join(self.work.root, "mail", name)
            data = b""
            if os.path.exists(path):
                with open(path, "rb") as f:
                    data = f.read()
            raw = crashlib.texts_of(data)
            last = 0
            for m in box.messages:
                if m.uid <= last or m.uid >= box.uidnext:
                    errors.append("%s: UID %d out of order or not below UIDNEXT %d" % (name, m.uid, box.uidnext))
                last = m.uid
                if m.ident is None or not crashlib.is_whole(m.text):
                    errors.append("%s: UID %d (%s) is not whole: %r" % (name, m.uid, m.ident, m.text[:120]))
                elif m.ident in self.texts and m.text != self.texts[m.ident]:
                    errors.append("%s: %s is not byte-identical" % (name, m.ident))
            if len(raw) != len(box.messages):
                errors.append("%s: another reader sees %d messages, we serve %d" % (name, len(raw), len(box.messages)))
            for text in raw:
                if not crashlib.raw_whole(text):
                    errors.append("%s: another reader sees a broken message: %r" % (name, text[:160]))
        return errors

    def allowed(self, name, ident, step, is_undone=False):
        """Records that a message may have after `step` acknowledged steps."""
        out = set()
        for state in self.states[step:step + (1 if is_undone else 2)]:
            found = state[name].by_ident().get(ident, []) if name in state else []
            out.add(tuple(m.record() for m in found))
        return out

    def check(self, boxes, step, out=b"", is_undone=False):
        """boxes as found after a crash in the step behind `step` acknowledged ones; out: what the process said."""
        if isinstance(boxes, str):
            return [boxes]
        fresh_uids = self.scenario.seed in UNSEEN # UIDVALIDITY is another one in every run, and UIDs are given in this one
        untold = b"ACK append 0 0\n" in out
        told = [int(v) for v in re.findall(rb"^ACK (?:open|append) (\d+) \d+", out, re.M)]
        told = [v for v in told if 0 < v < SHADOW]
        errors = self.check_bytes(boxes)
        before, after = self.states[step], self.states[min(step + 1, len(self.states) - 1)]
        sides = set()
        for name in set(before) & set(after) - set(boxes):
            errors.append("%s is gone" % name)
        for name, box in boxes.items():
            found = box.by_ident()
            known = [s[name] for s in (before, after) if name in s]
            if not fresh_uids and name in self.states[0] and known and box.validity not in [k.validity for k in known]:
                errors.append("%s: UIDVALIDITY %d became %d" % (name, known[0].validity, box.validity))
            if fresh_uids and told and name == "INBOX" and box.validity != told[-1]:
                errors.append("%s: UIDVALIDITY %d was told, now it is %d" % (name, told[-1], box.validity))
            if not fresh_uids and name in before and box.uidnext < before[name].uidnext:
                errors.append("%s: UIDNEXT %d fell to %d" % (name, before[name].uidnext, box.uidnext))
            # A delivery tells nobody what it has counted: only what a session saw before must not come again.
            told_by = self.states[0] if "-d" in self.scenario.options else before
            if not fresh_uids and name in told_by and box.modseq < told_by[name].modseq and box.validity == told_by[name].validity:
                errors.append("%s: HIGHESTMODSEQ %d fell to %d" % (name, told_by[name].modseq, box.modseq))
            for ident in set(found) | {i for k in known for i in k.by_ident()}:
                is_new = name not in before or ident not in before[name].by_ident()
                was_new = name not in self.states[0] or ident not in self.states[0][name].by_ident()
                is_free = (fresh_uids and not told) or (is_new and step + 1 < len(self.states)) or (was_new and untold)
                have = tuple(m.record()[is_free:] for m in found.get(ident, []))
                wants = {tuple(r[is_free:] for r in w) for w in self.allowed(name, ident, step, is_undone)}
                if have not in wants:
                    errors.append("%s: %s is %r, may be %r" % (name, ident, have and have[0][:-1],
                                                               [w and w[0][:-1] for w in wants]))
                one = tuple(m.record() for m in before[name].by_ident().get(ident, [])) if name in before else ()
                two = tuple(m.record() for m in after[name].by_ident().get(ident, [])) if name in after else ()
                if one != two and not fresh_uids:
                    sides.add("before" if have == one else "after")
        if len(sides) > 1 and step in self.scenario.atomic:
            errors.append("the step is there in part")
        for ident in {i for s in (before, after) for b in s.values() for i in b.by_ident()}:
            in_both = all(any(ident in b.by_ident() for b in s.values()) for s in (before, after))
            if in_both and not any(ident in b.by_ident() for b in boxes.values()):
                errors.append("%s is in no box any more" % ident)
        return errors

    def steps_done(self, out):
        return len(re.findall(rb"^ACK ", out, re.M))

    def settle(self, step, text, out, expect_foreign=None, is_undone=False):
        """Opens, checks, appends, checks again. is_undone: the next step said that it did nothing."""
        boxes = self.look()
        errors = []
        if expect_foreign and not isinstance(boxes, str):
            found = [m for m in boxes["INBOX"].messages if m.ident == "foreign"]
            if len(found) != 1:
                errors.append("the foreign message is there %d times" % len(found))
            boxes["INBOX"].messages = [m for m in boxes["INBOX"].messages if m.ident != "foreign"]
            errors += [e for e in self.check(boxes, step, out) if "another reader sees" not in e]
        else:
            errors += self.check(boxes, step, out, is_undone)
        if not errors:
            again = self.work.dumps(self.names(), ["append", "INBOX", "F", self.new_file])
            if isinstance(again, str):
                errors.append("append afterwards fails: %s" % again)
            else:
                errors += self.check_after(boxes, again)
        self.points += 1
        if errors:
            self.errors.append("%s: %s" % (text, "; ".join(errors[:4])))

    def check_after(self, boxes, again):
        errors = ["after an append: " + e for e in self.check_bytes(again)]
        one = {(n, m.ident): m.record() for n, b in boxes.items() for m in b.messages}
        two = {(n, m.ident): m.record() for n, b in again.items() for m in b.messages if m.ident not in ("after", "foreign")}
        if one != two:
            errors.append("a second opening shows something else")
        new = [m for m in again["INBOX"].messages if m.ident == "after"]
        if len(new) != 1 or new[0].uid < boxes["INBOX"].uidnext or new[0].flags != "F:":
            errors.append("the next append is not there as it should be")
        if again["INBOX"].validity != boxes["INBOX"].validity:
            errors.append("UIDVALIDITY changes at the second opening")
        return errors

    # ---- modes ----

    def run_mode(self, mode):
        if mode == "fail":
            self.count_calls()
        getattr(self, "mode_" + mode)()

    def reset(self):
        """The start, with an index that fits."""
        self.start.restore()
        if not self.plain_times:
            self.settle_index()

    def settle_index(self):
        """One that a power cut leaves: the end of a view sees to that."""
        if self.scenario.seed not in UNSEEN:
            self.work.run(["open", "INBOX", ",", "close", ",", "open", "Work", ",", "close"], options=("-t", "2", "-r"))

    def run_at(self, n, mode, **more):
        self.reset()
        env = dict(self.env, CRASH_MODE=mode, CRASH_AT=n, **more)
        return self.work.run(self.scenario.words(self.files), options=self.scenario.options, interpose=env)

    def each_kill(self, mode="kill"):
        """Yields (n, acknowledged steps) with the folder as the n-th kill left it."""
        n = 1
        while n < 5000:
            p = self.run_at(n, mode)
            if p.returncode == 0:
                return
            if p.returncode != -9:
                self.errors.append("%s at call %d: status %d %r" % (mode, n, p.returncode, p.stdout[-200:] + p.stderr[-300:]))
                return
            yield n, self.steps_done(p.stdout), p.stdout
            n += 1

    def mode_kill(self, mode="kill"):
        for n, step, out in self.each_kill(mode):
            self.settle(step, "%s at call %d, %d steps acknowledged" % (mode, n, step), out)

    def mode_torn(self):
        self.mode_kill("torn")

    def syncs(self):
        """Numbers of the calls that change nothing that a process can see."""
        self.reset()
        self.work.run(self.scenario.words(self.files), options=self.scenario.options,
                      interpose=dict(self.env, CRASH_MODE="trace", CRASH_TRACE=self.trace))
        return {number for kind, number, _, _, _ in powermodel.read_trace(self.trace) if kind == "sync"}

    def mode_again(self, has_index=True):
        syncs, before = self.syncs(), None
        for n, step, out in self.each_kill():
            if n - 1 in syncs and out == before:
                continue # as the call before left it
            before = out
            left = crashlib.Snapshot(self.work.root)
            if not has_index:
                left.files = {n: f for n, f in left.files.items() if not n.endswith(".index")}
                left.restore()
            m = 1
            while m < 5000:
                p = self.work.run(["open", "INBOX", ",", "poll", ",", "close"], interpose=dict(self.env, CRASH_MODE="torn", CRASH_AT=m))
                if p.returncode != -9:
                    break
                boxes = self.look()
                errors = self.check(boxes, step, out)
                self.points += 1
                if errors:
                    self.errors.append("kill at call %d, then at call %d of the recovery: %s" % (n, m, "; ".join(errors[:3])))
                left.restore()
                m += 1

    def mode_afresh(self):
        self.mode_again(has_index=False)

    def mode_foreign(self):
        """A delivery by another program, which mends nothing, between the crash and the recovery. Not where a line was left
        without an end by others, to which it would be glued, and not of a rename, which does not concern INBOX."""
        if self.scenario.seed is scenarios.foreign_unended or any(s[0] == "rename" for s in self.scenario.steps):
            return
        text = crashlib.message("foreign", 2500, odd=False)
        for n, step, out in self.each_kill():
            with open(self.work.inbox, "ab") as f:
                f.write(b"From other@example.org Fri Jan  2 00:00:00 2026\n" + text + b"\n")
            self.settle(step, "kill at call %d, %d steps acknowledged, foreign delivery" % (n, step), out, expect_foreign=True)

    def mode_fail(self):
        for name, sticky in (("ENOSPC", 1), ("EDQUOT", 1), ("EIO", 0), ("EPERM", 0), ("EROFS", 2)):
            number = getattr(errno, name)
            n = 1
            while n < 5000:
                p = self.run_at(n, "fail", CRASH_ERRNO=number, CRASH_STICKY=sticky)
                text = "%s at call %d" % (name, n)
                if p.returncode not in (0, 2):
                    self.errors.append("%s: status %d %r" % (text, p.returncode, p.stdout[-200:] + p.stderr[-500:]))
                    break
                step = self.steps_done(p.stdout)
                error = (re.findall(rb"^ERR.*$", p.stdout, re.M) or [b"no error"])[-1].decode()
                is_undone = error.startswith(("ERR append", "ERR copy")) and sticky < 2 # else it cannot even be undone
                self.settle(step, "%s, %d steps acknowledged, %s" % (text, step, error), p.stdout, is_undone=is_undone)
                n += 1
                if n > self.calls:
                    break

    def mode_power(self, strict=False):
        self.reset()
        before = crashlib.Snapshot(self.work.root)
        p = self.work.run(self.scenario.words(self.files), options=self.scenario.options, interpose=dict(self.env, CRASH_MODE="trace", CRASH_TRACE=self.trace))
        if p.returncode != 0:
            self.errors.append("traced run: status %d %r" % (p.returncode, p.stdout[-300:] + p.stderr[-300:]))
            return
        model = powermodel.Model(before, powermodel.read_trace(self.trace))
        for acked, files, dirs in model.states(strict=strict, budget=1 if self.quick else 5):
            crashlib.materialise(self.work.root, files, dirs)
            self.work.boot = "00000000-0000-4000-8000-000000000001\n"
            step = self.steps_done(acked)
            keep = len(self.errors)
            self.settle(step, "%s cut, state %d, %d steps acknowledged" % ("strict" if strict else "power", self.points, step), acked)
            if len(self.errors) > keep and os.environ.get("CRASH_KEEP"):
                crashlib.materialise(os.environ["CRASH_KEEP"], files, dirs)
                return

    def mode_strict(self):
        self.mode_power(strict=True)

    def mode_nosync(self):
        """The test of the test: a store that forgets to sync must be found out."""
        self.env["CRASH_NO_SYNC"] = 1
        self.mode_power()
        found, self.errors = len(self.errors), []
        if not found:
            self.errors.append("the power-cut test finds nothing wrong with a store that never syncs")

    def count_calls(self):
        self.calls = 0
        low, high = 1, 5000
        while low < high: # the smallest number at which no call is left to be stopped at
            mid = (low + high) // 2
            if self.run_at(mid, "kill").returncode == 0:
                high = mid
            else:
                low = mid + 1
        self.calls = low - 1
