"""A slow link for all that crosses a router, for kernels without netem: packets that are routed to a TUN device come back from
it so much later, in order.

    slow.py DEVICE

A line `MILLISECONDS` on standard input sets the delay of those that come from then on. What does not fit into the queue is lost,
as on a link.
"""

import collections
import fcntl
import os
import select
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001
PACKETS = 20000


def main(device):
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", device.encode(), IFF_TUN_NO_PI))
    queue = collections.deque()
    seconds = 0.0
    print("ready", flush=True)
    while True:
        wait = max(0, queue[0][0] - time.monotonic()) if queue else None
        readable, _, _ = select.select([tun, sys.stdin], [], [], wait)
        now = time.monotonic()
        if sys.stdin in readable:
            line = sys.stdin.readline()
            if not line:
                return
            seconds = float(line) / 1000
        if tun in readable:
            try:
                while len(queue) < PACKETS:
                    queue.append((now + seconds, os.read(tun, 1 << 16)))
            except BlockingIOError:
                pass
        while queue and queue[0][0] <= now:
            try:
                os.write(tun, queue.popleft()[1])
            except OSError:
                # a packet that the kernel does not take any more, such as one for a link that is down
                pass


if __name__ == "__main__":
    main(sys.argv[1])
