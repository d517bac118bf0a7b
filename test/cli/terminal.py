"""Runs a command on a terminal of its own, and prints what it wrote there.

Standard input is a JSON object: command, cwd, env, columns, and actions: [{after, send} or {after, columns}]. Once the
output since the action before holds the text `after`, `send` is typed, or the terminal takes another width.

Prints a JSON object: status, and pieces: [{columns, output}], one for each width.
"""

import fcntl
import json
import os
import pty
import struct
import sys
import termios


def resize(terminal, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))


def main():
    job = json.load(sys.stdin)
    pid, terminal = pty.fork()
    if pid == 0:
        resize(0, job["columns"])
        os.chdir(job["cwd"])
        os.execvpe(job["command"][0], job["command"], job["env"])
    pieces = [{"columns": job["columns"], "output": b""}]
    actions = job["actions"]
    seen = b""
    while True:
        try:
            output = os.read(terminal, 65536)
        except OSError:  # EIO: the last process on the terminal has ended
            output = b""
        if not output:
            break
        pieces[-1]["output"] += output
        seen += output
        if actions and actions[0]["after"].encode() in seen:
            action = actions.pop(0)
            seen = b""
            if "send" in action:
                os.write(terminal, action["send"].encode())
            else:
                pieces.append({"columns": action["columns"], "output": b""})
                resize(terminal, action["columns"])
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    for piece in pieces:
        piece["output"] = piece["output"].decode()
    print(json.dumps({"status": status, "pieces": pieces}))


main()
