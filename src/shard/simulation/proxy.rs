//! Connections that come by a proxy: what it says of them is believed where it is to be, and
//! nowhere else.

use std::fs::File;
use std::sync::Arc;

use super::directed::{Rig, message};
use super::judged;
use super::setup::{PROXIED, PROXIED_TLS, Setup, UNLISTED};
use super::wire::{self, Connect};
use crate::auth::{Provider, Question, Rejection, Throttle, Transport, Verdict, throttle};
use crate::telemetry::CloseReason;
use crate::tls::{PeerCertificate, Profile, Slot};
use crate::transport::proxy::testing::{binary, tls};
use crate::transport::tls::testing::CONFIGS;

const TOPIC: &str = "kp1/v1/dcx/e0/json";
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 1883\r\n";

fn opened(rig: &mut Rig, listener: u16) -> u32 {
    let socket = File::open("/dev/null").expect("is there").into();
    rig.core.opened(socket, listener).expect("accepted")
}

fn connect(index: u32) -> Vec<u8> {
    let client_id = format!("client-{index}");
    wire::connect(4, &Connect { client_id, clean: true, ..Connect::default() })
}

fn tell(rig: &mut Rig, index: u32, bytes: &[u8]) {
    rig.core.arrived(index, &mut bytes.to_vec());
    rig.turn();
}

/// In DER.
fn certificate() -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(["pump".to_owned()]).expect("a certificate");
    made.cert.der().to_vec()
}

fn source() -> Option<std::net::SocketAddr> {
    "[2001:db8::7]:56324".parse().ok()
}

#[test]
fn the_address_that_a_proxy_says_is_the_clients_in_both_versions_and_any_pieces() {
    for (header, address) in
        [(LINE.to_vec(), "192.0.2.7:56324"), (binary(source(), &[]), "[2001:db8::7]:56324")]
    {
        for piece in [1, 5, 1000] {
            let mut rig = Rig::new(&Setup::plain());
            let index = opened(&mut rig, PROXIED);
            let said = [&header[..], &connect(index), &message(4, TOPIC, 1, 7)].concat();
            said.chunks(piece).for_each(|piece| tell(&mut rig, index, piece));
            assert_eq!(rig.carry(), 1);
            assert_eq!(rig.heard[&index], [&CONNACK[..], &[0x40, 2, 0, 7]].concat());
            assert_eq!(rig.core.peer(index), address);
            assert_eq!(rig.core.comes_by(index), Transport::MqttTcp);
            let connection = &rig.core.connections[index as usize];
            assert_eq!(connection.pending.capacity() + connection.out.capacity(), 0);
        }
    }
}

#[test]
fn tls_behind_the_header_works_also_when_its_handshake_has_to_wait() {
    let mut setup = Setup::plain();
    setup.tls_profiles = vec![Arc::new(Slot::new(Arc::new(Profile::of(CONFIGS.server.clone()))))];
    setup.settings.tls_handshakes_max = 1;
    let mut rig = Rig::new(&setup);
    let mut clients: Vec<_> =
        (0..3).map(|_| super::tls::Client::at(&mut rig, PROXIED_TLS, 1)).collect();
    for (client, cut) in clients.iter_mut().zip([0, 0, 10]) {
        // The hello comes with the header, or a part of it later, when it waits already.
        let said = [binary(source(), &[]), client.hello()].concat();
        let (now, later) = said.split_at(said.len() - cut);
        tell(&mut rig, client.index, now);
        tell(&mut rig, client.index, later);
    }
    for client in &mut clients {
        client.hear(&mut rig);
        client.say(&mut rig, &connect(client.index));
        client.say(&mut rig, &message(4, TOPIC, 1, 7));
        assert_eq!(rig.carry(), 1);
        client.hear(&mut rig);
        assert_eq!(client.told, [&CONNACK[..], &[0x40, 2, 0, 7]].concat());
        assert_eq!(rig.core.peer(client.index), "[2001:db8::7]:56324");
    }
}

#[test]
fn a_handshake_behind_the_header_has_no_more_time_than_any_other() {
    let (mut rig, _desk) = judged::rig(|setup| {
        let profile = Profile::of(CONFIGS.server.clone());
        setup.tls_profiles = vec![Arc::new(Slot::new(Arc::new(profile)))];
    });
    let index = opened(&mut rig, PROXIED_TLS);
    rig.pass(4000);
    tell(&mut rig, index, &binary(source(), &[]));
    rig.pass(5000);
    assert_eq!(rig.why_closed(index), None);
    rig.pass(2000);
    assert_eq!(rig.why_closed(index), Some(CloseReason::TlsHandshakeTimeout));
}

#[test]
fn a_proxy_without_a_good_header_is_put_out() {
    for said in [&connect(0)[..], b"PROXY TCP4 nonsense\r\n", b"PROXI", &[0x16, 3, 1]] {
        let mut rig = Rig::new(&Setup::plain());
        let index = opened(&mut rig, PROXIED);
        tell(&mut rig, index, said);
        assert_eq!(rig.why_closed(index), Some(CloseReason::ProxyHeader), "{said:?}");
        assert!(!rig.heard.contains_key(&index));
    }
    let mut rig = Rig::new(&Setup::plain());
    let (slow, silent) = (opened(&mut rig, PROXIED), opened(&mut rig, PROXIED));
    tell(&mut rig, slow, &LINE[..20]);
    rig.pass(7000);
    for index in [slow, silent] {
        assert_eq!(rig.why_closed(index), Some(CloseReason::ConnectTimeout));
    }
}

#[test]
fn a_header_from_an_address_that_is_not_listed_is_refused_and_clients_there_are_not() {
    let mut rig = Rig::new(&Setup::plain());
    for header in [LINE, &binary(source(), &[])] {
        for piece in [1, 1000] {
            let index = opened(&mut rig, UNLISTED);
            let said = [header, &connect(index)].concat();
            said.chunks(piece).for_each(|piece| tell(&mut rig, index, piece));
            assert_eq!(rig.why_closed(index), Some(CloseReason::UnlistedProxy));
            assert!(!rig.heard.contains_key(&index));
        }
    }
    let index = opened(&mut rig, UNLISTED);
    tell(&mut rig, index, &connect(index));
    assert_eq!(rig.heard[&index], CONNACK);
}

#[test]
fn failed_logins_are_held_against_the_client_and_not_against_the_proxy() {
    let (mut rig, desk) = judged::rig(|setup| {
        setup.settings.auth.client_provider = Provider::Internal;
    });
    let limits = throttle::Limits { per_address: 1, per_username: 0, window_ms: 60_000 };
    rig.core.throttle = Arc::new(Throttle::new(limits));
    let der = certificate();
    let mut log_in = |address: &str| {
        let index = opened(&mut rig, PROXIED);
        let header = binary(format!("{address}:1000").parse().ok(), &tls(0, Some(&der)));
        tell(&mut rig, index, &[header, connect(index)].concat());
        let asked = desk.take();
        let was_asked = !asked.is_empty();
        for (ask, _) in asked {
            judged::answer(&mut rig, ask, Verdict::Rejected(Rejection::new(401, "wrong")));
        }
        was_asked
    };
    assert!(log_in("192.0.2.1"));
    assert!(!log_in("192.0.2.1"), "it has failed before");
    assert!(log_in("192.0.2.2"), "another client of the same proxy");
}

#[test]
fn a_certificate_that_the_proxy_has_verified_proves_who_the_client_is() {
    let der = certificate();
    for (verify, is_asked) in [(0, true), (1, false)] {
        let (mut rig, desk) = judged::rig(|setup| {
            setup.settings.auth.client_provider = Provider::Internal;
        });
        let index = opened(&mut rig, PROXIED);
        let header = binary(source(), &tls(verify, Some(&der)));
        tell(&mut rig, index, &[header, connect(index)].concat());
        assert_eq!(rig.core.comes_by(index), Transport::MqttTls);
        let asked = desk.take();
        let is_about_it =
            |(_, question): &(u64, Question)| matches!(question, Question::Certificate { .. });
        assert_eq!(asked.iter().any(is_about_it), is_asked, "{asked:?}");
    }
    let mut rig = Rig::new(&Setup::plain());
    let index = opened(&mut rig, PROXIED);
    tell(&mut rig, index, &binary(source(), &tls(0, Some(b"no certificate"))));
    assert_eq!(rig.why_closed(index), Some(CloseReason::ProxyHeader));
}

#[test]
fn behind_the_certificate_of_a_client_its_proxys_own_proves_nothing() {
    let (mut rig, desk) = judged::rig(|setup| {
        let profile = Profile::of(CONFIGS.mutual.0.clone());
        setup.tls_profiles = vec![Arc::new(Slot::new(Arc::new(profile)))];
        setup.settings.auth.client_provider = Provider::Internal;
    });
    let der = certificate();
    let of_client = PeerCertificate::verified_elsewhere(&der).expect("a certificate").name;
    for is_passed_on in [false, true] {
        let mut client = super::tls::Client::with(&mut rig, PROXIED_TLS, CONFIGS.mutual.1.clone());
        let header = binary(source(), &tls(0, is_passed_on.then_some(&der)));
        tell(&mut rig, client.index, &header);
        client.say(&mut rig, &connect(client.index));
        let asked = desk.take();
        let [(_, Question::Certificate { name, .. })] = &asked[..] else { panic!("{asked:?}") };
        assert_eq!(*name == of_client, is_passed_on, "{name:?}");
    }
}

#[test]
fn a_health_check_of_the_proxy_is_nobodys_address() {
    let mut rig = Rig::new(&Setup::plain());
    let index = opened(&mut rig, PROXIED);
    let mut local = binary(source(), &[]);
    local[12] = 0x20;
    tell(&mut rig, index, &local);
    assert_eq!(rig.core.connections[index as usize].address(), None::<std::net::SocketAddr>);
    rig.leave(index, false);
    assert!(rig.core.connections.is_empty());
}
