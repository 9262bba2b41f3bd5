"""Makes a copy of a source with a planted bug: plant.py BUG SOURCE OUT.

BUG holds, after comment lines that begin with #, the text to find, a line of ====, and what stands in its
place. Fails unless the text is in SOURCE exactly once: the code has moved on, and the bug must follow it.
"""

import sys


def main():
    bug, source, out = sys.argv[1:]
    with open(bug) as f:
        lines = [line for line in f if not line.startswith("#")]
    find, separator, replacement = "".join(lines).partition("====\n")
    with open(source) as f:
        text = f.read()
    if not separator or text.count(find) != 1:
        sys.exit("%s: its text is %d times in %s, not once" % (bug, text.count(find), source))
    with open(out, "w") as f:
        f.write(text.replace(find, replacement))


if __name__ == "__main__":
    main()
