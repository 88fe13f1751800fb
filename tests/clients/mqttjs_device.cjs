// A device on MQTT.js: publishes a sample of every QoS and waits for its /status. Exits 0 when all
// went as it should.
//
//     node mqttjs_device.cjs URL PROTOCOL_VERSION TOPIC [CA_FILE]
"use strict";

const fs = require("fs");
const path = require("path");

const mqtt = require(path.join(process.env.TEST_NODE_MODULES, "mqtt"));

const TIMEOUT_MS = 15000;
const [url, version, topic, caFile] = process.argv.slice(2);

function fail(why) {
    console.log(`WRONG ${why}`);
    process.exit(1);
}

async function request(client, requestId, qos) {
    const answered = new Promise((resolve) => client.once("message", resolve));
    await client.publishAsync(`${topic}/${requestId}`, JSON.stringify([{ temperature: 21 }]), { qos });
    const heard = await answered;
    if (heard !== `${topic}/${requestId}/status`) {
        fail(`the answer to request ${requestId} came on ${heard}`);
    }
    console.log(`ok    request ${requestId} with QoS ${qos}`);
}

async function main() {
    setTimeout(() => fail("not done in time"), TIMEOUT_MS).unref();
    const client = await mqtt.connectAsync(url, {
        protocolVersion: Number(version),
        protocolId: version === "3" ? "MQIsdp" : "MQTT",
        ca: caFile && fs.readFileSync(caFile),
        reconnectPeriod: 0,
        connectTimeout: TIMEOUT_MS,
    });
    client.on("error", (error) => fail(`${error}`));
    const large = "x".repeat(200000);
    for (const qos of [0, 1, 2]) {
        await request(client, qos + 1, qos);
    }
    await client.publishAsync(topic, large, { qos: 1 });
    console.log("ok    a message larger than one read");
    await client.endAsync();
    console.log("ok    ended");
}

main().catch((error) => fail(`${error}`));
