"""What a piece of code takes at its peak, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

# ru_maxrss would be no good: a child begins with the peak of the process that started it
CODE = """
import re, sys
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
{warm_up}
before = peak()
{code}
print(peak() - before)
"""


def peak_bytes(warm_up, code, *arguments, stdin=None):
    """Growth of the peak while `code` runs, after `warm_up`; `arguments` are ``sys.argv[1:]``."""
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc/self/status here")
    text = CODE.format(warm_up=warm_up, code=code)
    command = [sys.executable, "-c", text, *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return int(done.stdout)
