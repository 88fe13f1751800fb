//! Where devices come in.

use crate::{Folder, load, refused};

#[test]
fn a_unix_socket_is_instead_of_addresses_and_is_one_listeners_own() {
    let listener = |what: &str| format!("ringgate: {{ listeners: {{ {what} }} }}");
    let good = "a: { kind: mqtt, unix-socket: /run/a }, b: { kind: mqtt, unix-socket: /run/b }";
    let settings = load(&listener(good), &[]).unwrap();
    assert!(settings.listeners().iter().filter(|l| l.unix_socket.is_some()).count() == 2);
    let long = "x".repeat(108);
    for (bad, why) in [
        ("a: { kind: mqtt, unix-socket: /a, addresses: [::1] }".to_owned(), "give one"),
        (format!("a: {{ kind: mqtt, unix-socket: {long} }}"), "at most 107"),
        ("a: { kind: mqtt, addresses: ['::ffff:10.0.0.1'] }".to_owned(), "is 10.0.0.1 to us"),
        (good.replace("/run/b", "/run/a"), "is taken by ringgate.listeners.a too"),
    ] {
        let said = refused(&listener(&bad), &[]).join("\n");
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn says_what_is_configured_and_does_nothing() {
    let folder = Folder::new();
    let file = folder.file("some.pem", "something");
    let notices = |yaml: &str| {
        let yaml = yaml.replace("FILE", &file.display().to_string());
        load(&yaml, &[]).unwrap().notices().join("\n")
    };
    let unused = "ringgate: { tls: { web: { cert-files: [FILE], key-files: [FILE] } } }";
    assert!(notices(unused).contains("ringgate.tls.web is used by no listener"));
    let listener = "ringgate:
  tls:
    web: { cert-files: [FILE], key-files: [FILE], client-ca-files: [FILE], crl-files: [FILE] }
  listeners:
    web: { kind: https, tls: web }
";
    let said = notices(listener);
    assert!(!said.contains("used by no listener"), "{said}");
    assert!(said.contains("client-ca-files and crl-files of TLS profile web do nothing"), "{said}");
    let tenant = format!("{listener}  tenants: {{ acme: {{ ca-files: [FILE] }} }}\n");
    let said = notices(&tenant);
    assert!(said.contains("ringgate.tenants.acme.ca-files do nothing"), "{said}");
    let asking = tenant.replace("web: { cert", "web: { client-auth: optional, cert");
    let said = notices(&asking);
    assert!(!said.contains("do nothing"), "{said}");
    let said = notices(&format!(
        "{listener}    side: {{ kind: mqtt, unix-socket: /run/a, \
        proxy-protocol-from: [10.0.0.0/8] }}\n"
    ));
    assert!(said.contains("ringgate.listeners.side.proxy-protocol-from lacks `unix`"), "{said}");
    let demands = |what: &str| {
        notices(&format!("{asking}  auth: {{ client-provider: cap, require: {{ {what} }} }}\n"))
    };
    let said = demands("http: certificate");
    assert!(!said.contains("no client can show one"), "{said}");
    for transport in ["mqtt-tcp", "mqtt-tls", "mqtt-ws"] {
        let said = demands(&format!("{transport}: certificate"));
        let expected =
            format!("ringgate.auth.require.{transport} is certificate, and no client can");
        assert!(said.contains(&expected), "{said}");
    }
    // A proxy may pass on what its clients show.
    let proxied = "ringgate:
  auth: { client-provider: cap, require: { mqtt-tls: certificate } }
  listeners: { side: { kind: mqtt, port: 1884, proxy-protocol-from: [10.0.0.0/8] } }
";
    let said = notices(proxied);
    assert!(!said.contains("no client can show one"), "{said}");
}
