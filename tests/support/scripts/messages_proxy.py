"""A gRPC peer between trainer and daemon that repeats, swaps and delays whole messages.

Arguments: where to listen, target, a JSON object of shares from 0 to 1 and seconds, a seed:
    repeat: of the messages are passed on twice
    swap: of the messages are passed on behind the next one (within 50 ms, or in their place)
    delay: the longest delay of a message, in seconds
HTTP/2 keeps the order of a stream, so that no network does this; a broken proxy could. The first
message of a stream, which says whose it is, keeps its place.
"""

import json
import queue
import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc

METHOD = "/lrpilot.v1.SessionService/Session"
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.so_reuseport", 0)]
SWAP_S = 0.05
END = object()


class Mangler:
    """Passes messages of one direction of one stream on, as drawn from a seed."""

    def __init__(self, faults: dict[str, float], seed: int) -> None:
        self._faults = faults
        self._chance = random.Random(seed)

    def mangle(self, messages: "queue.SimpleQueue[Any]") -> Iterator[bytes]:
        """What is passed on, in its order."""
        first = True
        while (message := messages.get()) is not END:
            held = [message]
            if not first and self._chance.random() < self._faults.get("swap", 0.0):
                try:
                    following = messages.get(timeout=SWAP_S)
                except queue.Empty:
                    following = None
                if following is END:
                    messages.put(END)
                elif following is not None:
                    held.insert(0, following)
            first = False
            for one in held:
                time.sleep(self._chance.uniform(0, self._faults.get("delay", 0.0)))
                yield one
                if self._chance.random() < self._faults.get("repeat", 0.0):
                    yield one


class Proxy(grpc.GenericRpcHandler):
    """Opens a stream of its own for each that is opened."""

    def __init__(self, target: str, faults: dict[str, float], seed: int) -> None:
        self._target = target
        self._faults = faults
        self._seeds = random.Random(seed)

    def service(self, _details: Any) -> Any:
        """Every method is one: bytes both ways."""
        return grpc.stream_stream_rpc_method_handler(self._session)

    def _session(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        up, down = (Mangler(self._faults, self._seeds.getrandbits(32)) for _ in range(2))
        with grpc.insecure_channel(self._target, options=OPTIONS) as channel:
            call = channel.stream_stream(METHOD)(up.mangle(_pumped(requests)))
            context.add_callback(call.cancel)
            yield from down.mangle(_pumped(call))
            context.abort(call.code(), call.details())


def _pumped(messages: Iterator[bytes]) -> "queue.SimpleQueue[Any]":
    """The messages as they come, and `END`."""
    into: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def pump() -> None:
        try:
            for message in messages:
                into.put(message)
        except Exception:
            pass  # the stream was broken off: its status says so
        finally:
            into.put(END)

    threading.Thread(target=pump, daemon=True).start()
    return into


def main(listen: str, target: str, faults: str, seed: str) -> None:
    """Serve until standard input ends."""
    server = grpc.server(futures.ThreadPoolExecutor(16), options=OPTIONS)
    server.add_generic_rpc_handlers([Proxy(target, json.loads(faults), int(seed))])
    server.add_insecure_port(listen)
    server.start()
    print(listen, flush=True)
    sys.stdin.read()
    server.stop(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
