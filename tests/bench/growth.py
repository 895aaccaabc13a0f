"""The same work on boxes of growing size: how it grows is what is asked, as a table and as a plot."""
import shutil
import subprocess

import imap
import tables

STEPS = ("SELECT, first", "SELECT, new session", "FETCH 1:* ENVELOPE, first", "FETCH 1:* ENVELOPE, later",
         "FETCH 1:* BODY.PEEK[]", "SEARCH BODY, absent word", "SORT (SUBJECT)", "EXPUNGE the first", "EXPUNGE every tenth")


def compare(run, table, sizes, known, seconds):
    """{count: {step: {server: seconds}}}, and the same as a table: a row for each step and server, a column for each size.
    known: tables of the IMAP part by count, which need not be made again."""
    curve = {}
    missing = sum(count for count in sizes if count not in known)
    for count in sizes:
        source = known.get(count)
        if not source:
            source = tables.Table("growth", f"{count} messages")
            imap.compare(run.imap_servers(source), source, *run.box(count), 1, seconds * count / missing,
                         run.paces["imap"], STEPS.__contains__)
            for note in source.notes:
                table.note(f"{count} messages: {note}")
        curve[count] = {step: {name: source.median(step, name) for name in source.samples[step]}
                        for step in STEPS if step in source.samples}
        for step, values in curve[count].items():
            for name, value in values.items():
                table.add(f"{step}: {name}", str(count), value)
    return curve


def plot(curve, svg):
    """Draws the curves of all servers with gnuplot, logarithmic in both directions."""
    if not shutil.which("gnuplot"):
        tables.log("  no gnuplot, no plot")
        return
    data, lines = [], []
    names = sorted({n for steps in curve.values() for values in steps.values() for n in values})
    for number, step in enumerate(STEPS, 1):
        for name in names:
            points = [(c, s[step][name]) for c, s in curve.items() if s.get(step, {}).get(name)]
            if points:
                data.append(f"${name}{number} << END\n" + "".join(f"{c} {v:.6g}\n" for c, v in points) + "END\n")
                dash = 1 + sorted(names, key=lambda n: n != "pennypost").index(name)
                lines.append(f"${name}{number} using 1:2 with linespoints dt {dash} lc {number} pt {number} ps 0.5 "
                             f"title '{step}, {name}'")
    script = ("set terminal svg size 960,640 font 'sans,11'\nset logscale xy\nset grid\nset xlabel 'messages'\n"
              "set ylabel 'seconds'\nset key outside right\n" + f"set output '{svg}'\n" + "".join(data) +
              "plot " + ", \\\n     ".join(lines) + "\n")
    subprocess.run(["gnuplot"], input=script, text=True, check=True)
