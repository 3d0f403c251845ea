"""Run the broker: ``python -m kafka_server --port N --control M``."""

from __future__ import annotations

import argparse
import asyncio
import json

from kafka_server.control import Control
from kafka_server.groups import Groups
from kafka_server.server import Server
from kafka_server.topics import Topics


async def serve(options: argparse.Namespace) -> None:
    """Serve until the process is ended."""
    server = Server(
        Topics(partitions=options.partitions, automatic=options.automatic),
        Groups(initial_delay=options.initial_delay),
        check_crc=options.check_crc,
    )
    server.transactions.longest = options.longest_transaction
    server.consumer_groups.session, server.consumer_groups.interval = options.session, options.heartbeat
    control = await asyncio.start_server(Control(server).serve, "127.0.0.1", options.control, limit=1 << 24)
    await server.listen(options.port, **json.loads(options.listener))
    for one in options.listen:
        bound, _, advertised = one.partition("=")
        host, _, port = bound.rpartition(":")
        await server.listen(int(port), host=host, advertised=advertised or None)
    await server.tick()
    control.close()


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="kafka_server", description="A strict Kafka broker for tests.")
    parser.add_argument("--port", type=int, default=9092, help="of 127.0.0.1, for clients")
    parser.add_argument("--control", type=int, default=0, help="of 127.0.0.1, for tests")
    parser.add_argument("--listener", default="{}", help="what more the first port has: JSON of Server.listen")
    parser.add_argument(
        "--listen", action="append", default=[], metavar="HOST:PORT[=HOST:PORT]", help="one more port[=advertised as]"
    )
    parser.add_argument("--partitions", type=int, default=1, help="of a topic that is made without a number")
    parser.add_argument("--automatic", action="store_true", help="make unknown topics that clients ask for")
    parser.add_argument("--initial-delay", type=float, default=0.0, help="seconds: group.initial.rebalance.delay")
    parser.add_argument("--longest-transaction", type=float, default=900.0, help="seconds: transaction.max.timeout")
    parser.add_argument("--session", type=float, default=6.0, help="seconds: group.consumer.session.timeout")
    parser.add_argument("--heartbeat", type=float, default=0.1, help="seconds: group.consumer.heartbeat.interval")
    parser.add_argument("--check-crc", action="store_true", help="check the checksum of each batch; slow")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
