"""Running programs, and waiting, so that an interrupt ends both."""

import subprocess
import threading
import time

stopping = threading.Event()
"""Set when the run is to end: every wait of every thread ends with Interrupted."""


class Interrupted(Exception):
    """The run was told to end."""


class CommandFailed(Exception):
    """A program ended with another status than 0; the text holds what it said."""


class TimedOut(Exception):
    """What was waited for did not happen in time."""


def run(*argv, stdin="", timeout=120, check=True, env=None):
    """The standard output of a program, without the final newline; `timeout` in seconds."""
    done = subprocess.run(
        [str(word) for word in argv], input=stdin, capture_output=True, text=True, timeout=timeout, env=env,
        errors="replace", start_new_session=True)
    if check and done.returncode != 0:
        command = " ".join(map(str, argv))
        raise CommandFailed(f"{command}: status {done.returncode}\n{done.stderr}{done.stdout}".rstrip())
    return done.stdout.rstrip("\n")


def in_netns(netns, *argv):
    """The words of a command that runs in a named network namespace."""
    return ("nsenter", f"--net=/run/netns/{netns}", "--", *argv)


def pause(seconds):
    if stopping.wait(seconds):
        raise Interrupted


def wait_until(what, condition, seconds, interval=0.3):
    """Waits until `condition()` is true and returns its value; what it raises counts as false."""
    end = time.monotonic() + seconds
    last = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = value
        except (CommandFailed, OSError, subprocess.TimeoutExpired) as error:
            last = error
        if time.monotonic() > end:
            raise TimedOut(f"not within {seconds} s: {what} (last: {last!r:.600})")
        pause(interval)


def end(process, seconds=5):
    """Ends a process that this harness started."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
