"""The same work on boxes of growing size: how it grows is what is asked, as a table and as a plot."""
import os
import shutil
import subprocess

import generate
import imap

STEPS = ("SELECT, first", "SELECT, new session", "FETCH 1:* ENVELOPE, first", "FETCH 1:* ENVELOPE, later",
         "FETCH 1:* BODY.PEEK[]", "SEARCH BODY, absent word", "SORT (SUBJECT)", "EXPUNGE the first", "EXPUNGE every tenth")


def compare(make_servers, work, sizes, known):
    """{count: {step: {server: seconds}}}. known: tables of imap.compare() by count, which need not be made again."""
    curve = {}
    for count in sizes:
        table = known.get(count)
        if not table:
            box = os.path.join(work, f"box-{count}")
            digests = generate.write_mbox(box, count)
            table = imap.compare(make_servers(), box, digests, 1, 0, verify=count <= 10000)
            os.unlink(box)
        curve[count] = {step: table[step] for step in STEPS if step in table}
    return curve


def rows(curve):
    """The curve as a table: a row for each step and server, a column for each size."""
    table = {}
    for count, steps in curve.items():
        for step, values in steps.items():
            for name, seconds in values.items():
                if seconds is not None:
                    table.setdefault(f"{step}: {name}", {})[f"{count}"] = seconds
    return table


def plot(curve, svg):
    """Draws the curves of all servers with gnuplot, logarithmic in both directions."""
    if not shutil.which("gnuplot"):
        print("  no gnuplot, no plot")
        return
    data, lines = [], []
    names = sorted({n for steps in curve.values() for values in steps.values() for n in values})
    for number, step in enumerate(STEPS, 1):
        for name in names:
            points = [(c, s[step][name]) for c, s in curve.items() if s.get(step, {}).get(name)]
            if points:
                data.append(f"${name}{number} << END\n" + "".join(f"{c} {v:.6g}\n" for c, v in points) + "END\n")
                dash = 1 if name == "pennypost" else 2
                lines.append(f"${name}{number} using 1:2 with linespoints dt {dash} lc {number} pt {number} ps 0.5 "
                             f"title '{step}, {name}'")
    script = ("set terminal svg size 960,640 font 'sans,11'\nset logscale xy\nset grid\nset xlabel 'messages'\n"
              "set ylabel 'seconds'\nset key outside right\n" + f"set output '{svg}'\n" + "".join(data) +
              "plot " + ", \\\n     ".join(lines) + "\n")
    subprocess.run(["gnuplot"], input=script, text=True, check=True)
