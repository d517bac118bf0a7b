"""Answers a test's requests in one process, which imports PyTorch once. The test's side is PythonSession in python.ts."""

import contextlib
import io
import json
import sys
import traceback


def serve(actions):
    """Reads a line of JSON per request, `[action, *arguments]`, and answers with a line: what the action printed, or its error."""
    for line in sys.stdin:
        action, *arguments = json.loads(line)
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                actions[action](*arguments)
            answer = {"printed": printed.getvalue()}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)
