"""A slow link, for kernels without netem: what goes through the port arrives so much later, in both directions and in order, and
what comes back from the host at most so fast.

    delay.py PORT HOST MILLISECONDS [BYTES]

A line `MILLISECONDS BYTES` on standard input changes both for the connections that there are, too; 0 bytes a second are as many
as there are.
"""

import asyncio
import sys


class Link:
    def __init__(self, milliseconds, rate):
        self.seconds, self.rate = milliseconds / 1000, rate

    async def carry(self, reader, writer, is_limited):
        """Each piece waits for its own time, so that those behind it do not wait twice."""
        pieces = asyncio.Queue(4096)
        loop = asyncio.get_running_loop()

        async def read():
            data = b"-"
            while data:
                try:
                    data = await reader.read(4096 if self.rate else 1 << 16)
                except ConnectionError:
                    data = b""
                await pieces.put((loop.time() + self.seconds, data))

        reading = asyncio.create_task(read())
        try:
            while True:
                due, data = await pieces.get()
                await asyncio.sleep(max(0, due - loop.time()))
                if is_limited and self.rate:
                    await asyncio.sleep(len(data) / self.rate)
                if not data:
                    return
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            reading.cancel()
            writer.close()


async def main(port, host, milliseconds, rate=0):
    link = Link(float(milliseconds), int(rate))

    async def meet(reader, writer):
        there, back = await asyncio.open_connection(host, 5432)
        await asyncio.gather(link.carry(reader, back, False), link.carry(there, writer, True))

    def change():
        if words := sys.stdin.readline().split():
            link.seconds, link.rate = float(words[0]) / 1000, int(words[1])
        else:
            asyncio.get_running_loop().remove_reader(sys.stdin)

    server = await asyncio.start_server(meet, "0.0.0.0", int(port))
    asyncio.get_running_loop().add_reader(sys.stdin, change)
    print("listening", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
