"""A slow link, for kernels without netem: what goes through the port arrives so much later, in both directions, in order and
at full rate.

    delay.py PORT HOST MILLISECONDS
"""

import asyncio
import sys


async def carry(reader, writer, seconds):
    """Each piece waits for its own time, so that those behind it do not wait twice."""
    pieces = asyncio.Queue(4096)
    loop = asyncio.get_running_loop()

    async def read():
        while data := await reader.read(1 << 16):
            await pieces.put((loop.time() + seconds, data))
        await pieces.put((loop.time() + seconds, b""))

    reading = asyncio.create_task(read())
    try:
        while True:
            due, data = await pieces.get()
            await asyncio.sleep(max(0, due - loop.time()))
            if not data:
                return
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        reading.cancel()
        writer.close()


async def main(port, host, milliseconds):
    async def meet(reader, writer):
        there, back = await asyncio.open_connection(host, 5432)
        await asyncio.gather(carry(reader, back, milliseconds / 1000), carry(there, writer, milliseconds / 1000))

    server = await asyncio.start_server(meet, "0.0.0.0", port)
    print("listening", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
