"""A device on paho-mqtt: publishes samples and waits for their /status, first without any
SUBSCRIBE, then with overlapping subscriptions. Exits 0 when all went as it should."""

import argparse
import json
import queue
import sys

import paho.mqtt.client as mqtt

TIMEOUT_S = 15
VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}


class Device:
    """One connection, its callbacks turned into queues."""

    def __init__(self, options):
        self.base = f"kp1/{options.app_version}/dcx/{options.token}"
        self.connected = queue.Queue()
        self.messages = queue.Queue()
        self.subscribed = queue.Queue()
        self.unsubscribed = queue.Queue()
        # No client id: the SDK for Python gives none either.
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            protocol=VERSIONS[options.version],
            transport="websockets" if options.websocket_path else "tcp",
        )
        if options.websocket_path:
            self.client.ws_set_options(path=options.websocket_path)
        self.client.on_connect = lambda c, u, flags, reason, p: self.connected.put(reason)
        self.client.on_message = lambda c, u, message: self.messages.put(message)
        self.client.on_subscribe = lambda c, u, mid, reasons, p: self.subscribed.put(reasons)
        self.client.on_unsubscribe = lambda c, u, mid, reasons, p: self.unsubscribed.put(reasons)
        if options.ca:
            self.client.tls_set(options.ca, certfile=options.cert, keyfile=options.key)
        self.client.connect("127.0.0.1", options.port, keepalive=60)
        self.client.loop_start()
        reason = self.connected.get(timeout=TIMEOUT_S)
        expect(not reason.is_failure, f"connected: {reason}")

    def request(self, request_id, qos):
        """Publishes one sample with a request id and returns the next message that comes."""
        sample = json.dumps([{"temperature": 21, "request": request_id}])
        info = self.client.publish(f"{self.base}/json/{request_id}", sample, qos=qos)
        message = self.messages.get(timeout=TIMEOUT_S)
        info.wait_for_publish(TIMEOUT_S)
        expect(info.is_published(), f"the QoS {qos} handshake is over")
        expect(
            message.topic == f"{self.base}/json/{request_id}/status",
            f"the answer to request {request_id} came on {message.topic}",
        )
        expect(message.payload == b"", f"its payload is {message.payload!r}")
        expect(message.qos == qos, f"its QoS is {message.qos}, as asked with {qos}")


def expect(condition, what):
    """Says what was seen, and ends the program where it is wrong."""
    print(("ok    " if condition else "WRONG ") + what, flush=True)
    if not condition:
        sys.exit(1)


def main():
    """Runs the whole conversation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--version", choices=VERSIONS, required=True)
    parser.add_argument("--app-version", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--websocket-path", help="speak through a WebSocket at this path")
    parser.add_argument("--ca", help="speak TLS, and trust the authorities in this PEM file")
    parser.add_argument("--cert", help="show the certificate in this PEM file")
    parser.add_argument("--key", help="whose key is in this one")
    device = Device(parser.parse_args())

    for qos in (0, 1, 2):
        device.request(request_id=qos, qos=qos)

    filters = [(f"{device.base}/#", 2), (f"{device.base}/json/+/status", 1)]
    device.client.subscribe(filters)
    granted = [reason.value for reason in device.subscribed.get(timeout=TIMEOUT_S)]
    expect(granted == [2, 1], f"granted {granted}")
    for request_id in (10, 11, 12):
        # A message delivered twice would be taken for the next request's answer.
        device.request(request_id, qos=1)

    device.client.unsubscribe([name for name, _ in filters] + ["never/subscribed"])
    device.unsubscribed.get(timeout=TIMEOUT_S)
    device.request(request_id=20, qos=0)
    expect(device.messages.empty(), "nothing came twice")

    device.client.disconnect()
    device.client.loop_stop()


if __name__ == "__main__":
    main()
