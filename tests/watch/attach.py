"""Loads a Java agent into a JVM that runs already.

This is HotSpot's own attach protocol, as `jcmd PID JVMTI.agent_load` speaks it: a JRE has no jcmd, and the Kafka and the Cassandra of the tests
are started without an agent.
"""

import os
import signal
import socket
import time
from pathlib import Path


def load_agent(pid, jar, options, timeout_s=60):
    """Loads the agent, or raises with what the JVM answered."""
    path = _listening(pid, timeout_s)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(timeout_s)
        peer.connect(str(path))
        words = ["1", "load", "instrument", "false", f"{jar}={options}"]
        peer.sendall(b"".join(word.encode() + b"\0" for word in words))
        answer = b""
        while part := peer.recv(4096):
            answer += part
    lines = answer.decode(errors="replace").split("\n")
    # The first line is the status of the request, the second what the agent returned.
    codes = [line.removeprefix("return code: ") for line in lines[:2] if line]
    if any(code != "0" for code in codes):
        raise RuntimeError(f"process {pid} refuses the agent {jar}: {answer.decode(errors='replace')}")


def _listening(pid, timeout_s):
    """The socket on which the JVM takes requests; it opens one when it finds the trigger file and gets SIGQUIT."""
    path = Path(f"/proc/{pid}/root/tmp/.java_pid{pid}")
    if path.is_socket():
        return path
    trigger = Path(f"/proc/{pid}/cwd/.attach_pid{pid}")
    trigger.touch(mode=0o600)
    try:
        deadline = time.monotonic() + timeout_s
        while not path.is_socket():
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {pid} takes no agent")
            os.kill(pid, signal.SIGQUIT)
            time.sleep(0.5)
    finally:
        trigger.unlink(missing_ok=True)
    return path
