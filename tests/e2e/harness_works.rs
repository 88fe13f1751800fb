//! The rig itself: an end-to-end test is worth what its measuring instruments are.

use crate::harness::extension::{self, Extension, ExtensionData};
use crate::harness::nats::Nats;
use crate::harness::packet::{Packet, Publish, V5, V311, Value, property};
use crate::harness::proxy::Proxy;

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Vectors worked out by hand from the schemas of 4/ESP.
const CLIENT_DATA: &str = "046331020006617631000465310a2f6a736f6e0054065b315d00";
const CLIENT_DATA_NAMED: &str = "04633102000661763102042f780200020e6e6574776f726b";
const EXTENSION_DATA: &str = "046331020000066176310006646378000465310a2f6a736f6e005402900302044f4b";

#[test]
fn the_extension_reads_the_vectors() {
    let nats = Nats::start();
    let dcx = Extension::start(&nats.url(), "dcx", extension::is_silent);
    let subject = "kaa.v1.service.dcx.esp.ClientData";
    dcx.publish(subject, Some("reply.here"), bytes(CLIENT_DATA));
    dcx.publish(subject, None, bytes(CLIENT_DATA_NAMED));
    // The older schema: the same without its last byte.
    dcx.publish(subject, None, bytes(&CLIENT_DATA[..CLIENT_DATA.len() - 2]));

    let data = dcx.take();
    assert_eq!((data.subject.as_str(), data.reply.as_deref()), (subject, Some("reply.here")));
    assert_eq!((data.correlation_id.as_str(), data.timestamp_ms, data.timeout_ms), ("c1", 1, 0));
    assert_eq!((data.app_version_name.as_str(), data.endpoint_id.as_deref()), ("av1", Some("e1")));
    assert_eq!((data.resource_path.as_str(), data.request_id), ("/json", Some(42)));
    assert_eq!((data.text(), data.config_name.as_deref()), ("[1]", None));
    assert!(data.has_config_name);

    let data = dcx.take();
    assert_eq!((data.endpoint_id, data.request_id, data.payload), (None, None, Vec::new()));
    assert_eq!(data.config_name.as_deref(), Some("network"));
    assert!(!dcx.take().has_config_name);
}

#[test]
fn the_extension_writes_the_vector() {
    let mut data = ExtensionData::push("dcx", "e1", "/json", "").reason("OK");
    data.correlation_id = "c1".to_owned();
    data.timestamp_ms = 1;
    data.app_version_name = Some("av1".to_owned());
    data.request_id = Some(42);
    data.payload = None;
    assert_eq!(data.datum(), bytes(EXTENSION_DATA));
}

#[test]
fn the_proxy_cuts_and_opens_and_the_extension_comes_back() {
    let mut nats = Nats::start();
    let proxy = Proxy::to(nats.address());
    let behind = Extension::start(&proxy.url(), "dcx", extension::is_silent);
    proxy.shut();
    nats.kill();
    nats.restart();
    proxy.open();
    behind.wait_until_ready();
    let direct = Extension::start(&nats.url(), "cmx", extension::is_silent);
    direct.publish("kaa.v1.service.dcx.esp.ClientData", None, bytes(CLIENT_DATA));
    assert_eq!(behind.take().text(), "[1]");
    nats.freeze();
    behind.publish("kaa.v1.service.cmx.esp.ClientData", None, bytes(CLIENT_DATA));
    direct.expect_silence();
    nats.thaw();
    assert_eq!(direct.take().text(), "[1]");
}

#[test]
fn packets_read_back_as_they_were_written() {
    let publish = Publish::new("a/b", vec![7; 300])
        .qos(2, 513)
        .duplicate()
        .property(property::TOPIC_ALIAS, Value::Two(9))
        .property(property::USER_PROPERTY, Value::Pair("k".to_owned(), "v".to_owned()));
    let mut stream = publish.bytes(V5);
    let older = Publish::new("a/b", "x").retain();
    stream.extend(older.bytes(V311));
    stream.extend([0x40, 2, 0]);
    assert_eq!(Packet::take(&mut stream).map(|packet| packet.publish(V5)), Some(publish));
    assert_eq!(Packet::take(&mut stream).map(|packet| packet.publish(V311)), Some(older));
    assert_eq!(Packet::take(&mut stream), None, "a packet cut short is not taken");
    assert_eq!(stream, [0x40, 2, 0]);
}

#[test]
fn packets_are_those_of_an_independent_codec() {
    let publish = Publish::new("kp1/v1/dcx/t/json", "payload").qos(1, 77);
    let mut theirs =
        mqttbytes::v4::Publish::new("kp1/v1/dcx/t/json", mqttbytes::QoS::AtLeastOnce, "payload");
    theirs.pkid = 77;
    let mut written = Default::default();
    theirs.write(&mut written).expect("a valid packet");
    assert_eq!(publish.bytes(V311), &written[..]);
}
