//! Who may talk, and who says so.

use ringgate::config::{ClientProvider, Elsewhere, EndpointProvider, Requirement};

use crate::{load, refused};

#[test]
fn applications_and_tenants_have_their_own_word_or_that_of_all() {
    let settings = load(
        "
kaa:
  applications:
    own:
      tenant: a
      endpoint-provider: http
      endpoint-elsewhere: reject
    open: null
    bare: { tenant: null, endpoint-provider: null, endpoint-elsewhere: null }
ringgate:
  auth:
    endpoint-provider: ecap
    client-provider: cap
    endpoint-elsewhere: allow
    default-tenant: d
    require: { mqtt-tcp: basic }
    http: { url: 'http://auth/ask' }
  tenants: { a: { require: { mqtt-tcp: none } }, b: null }
",
        &[("KAA_APPLICATIONS_OPEN_ENDPOINT_PROVIDER", "trustful")],
    )
    .unwrap();
    assert_eq!(settings.ringgate.auth.client_provider, ClientProvider::Cap);
    let of = |app| {
        (settings.tenant(app), settings.endpoint_provider(app), settings.endpoint_elsewhere(app))
    };
    assert_eq!(of("own"), ("a", EndpointProvider::Http, Elsewhere::Reject));
    assert_eq!(of("open"), ("d", EndpointProvider::Trustful, Elsewhere::Allow));
    assert_eq!(of("bare"), ("d", EndpointProvider::Ecap, Elsewhere::Allow));
    assert_eq!(settings.require("a").mqtt_tcp, Requirement::None);
    assert_eq!(settings.require("b").mqtt_tcp, Requirement::Basic);
    assert_eq!(settings.require("unheard-of").mqtt_tcp, Requirement::Basic);
    assert_eq!(settings.tenants().into_iter().collect::<Vec<_>>(), ["a", "b", "d"]);
    assert_eq!(settings.trustful_applications(), ["open"]);
    assert!(settings.rejects_elsewhere());
    assert!(!settings.needs_internal_store());
}

#[test]
fn the_store_of_credentials_is_needed_by_who_asks_it() {
    let needs = |yaml: &str| load(yaml, &[]).unwrap().needs_internal_store();
    let app = "kaa: { applications: { a: null }}\n";
    assert!(needs(""));
    assert!(!needs("ringgate: { auth: { client-provider: trustful }}"));
    assert!(needs(&format!("{app}ringgate: {{ auth: {{ client-provider: cap }}}}")));
    let remote = "auth: { client-provider: cap, endpoint-provider: ecap }";
    assert!(!needs(&format!("{app}ringgate: {{ {remote} }}")));
    assert!(needs(&format!("{app}ringgate: {{ {remote}, credentials: {{ serve: true }}}}")));
    let own = "kaa: { applications: { a: { endpoint-provider: internal }}}\n";
    assert!(needs(&format!("{own}ringgate: {{ {remote} }}")));
}

#[test]
fn says_loudly_who_is_let_in_unasked() {
    let notices = |yaml: &str| load(yaml, &[]).unwrap().notices().join("\n");
    assert!(!notices("").contains("trustful"));
    let yaml = "
kaa:
  applications:
    closed: null
    open: { endpoint-provider: trustful }
    wide: { endpoint-provider: trustful }
";
    let said = notices(yaml);
    let line = "ANY endpoint token is accepted for application(s) open, wide";
    assert!(said.contains(line) && !said.contains("ANY client"), "{said}");
    let said = notices("ringgate: { auth: { client-provider: trustful } }");
    assert!(said.contains("ANY client may connect") && !said.contains("token"), "{said}");
}

#[test]
fn a_demand_that_no_client_could_meet_is_refused() {
    let require = |what: &str| {
        format!("ringgate: {{ auth: {{ client-provider: cap, require: {{ {what} }} }} }}")
    };
    assert!(load(&require("http: certificate, mqtt-ws: basic"), &[]).is_ok());
    let why = refused(&require("http: basic"), &[]).join("\n");
    assert!(why.contains("no user names and passwords over HTTP"), "{why}");
    let of_tenant = "ringgate: { tenants: { acme: { require: { http: basic } } } }";
    let why = refused(of_tenant, &[]).join("\n");
    assert!(why.contains("ringgate.tenants.acme.require.http"), "{why}");
}
