"""Leaves out of a command's standard error what TensorFlow says at every start.

It says it while its libraries are loaded, whatever `TF_CPP_MIN_LOG_LEVEL` is, and below Python. So
another process copies what is written there, line by line, but for these lines. It lives longer
than the command: what is said in a crash arrives too.
"""

import os
import re
import signal
import sys

_GREETINGS = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\) is called"
    rb"|To enable the following instructions: "
    rb"|[IE]\d{4} [^\]]*("
    rb"port\.cc:\d+\] oneDNN custom operations are on"
    rb"|cpu_feature_guard\.cc:\d+\] This TensorFlow binary is optimized"
    rb"|cudart_stub\.cc:\d+\] Could not find cuda drivers on your machine"
    # Without a driver; a driver that fails has another number.
    rb"|cuda_platform\.cc:\d+\] failed call to cuInit: .*UNKNOWN ERROR \(303\))"
)


def leave_out() -> None:
    """Leaves them out of what this process and its children write from now on.

    Of what TensorFlow says later, its warnings and errors are left: the next level of its own.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    if os.name != "posix" or sys.stderr is None:
        return
    # What Python itself says goes the straight way.
    said = sys.stderr
    sys.stderr = os.fdopen(os.dup(2), "w", 1, encoding=said.encoding, errors=said.errors)
    reader, writer = os.pipe()
    # Ctrl-C ends the command, and this process with the last that it says.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    command = [sys.executable, "-I", "-S", __file__]
    os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0)])
    signal.signal(signal.SIGINT, handler)
    os.dup2(writer, 2)
    os.close(reader)
    os.close(writer)


if __name__ == "__main__":
    for line in sys.stdin.buffer:
        if not _GREETINGS.match(line):
            sys.stderr.buffer.write(line)
            sys.stderr.flush()
