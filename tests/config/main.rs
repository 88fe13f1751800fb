//! Loading, refusing and printing settings, through the library and through the program.

mod doors;
mod who;

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use ringgate::config::{self, ConfigName, LogFormat, NatsUrl, Settings, Shards, WhenUnavailable};

/// A directory of one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "ringgate-config-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Loads a text; problems come as lines without the name of the file.
fn load(yaml: &str, environment: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
    let folder = Folder::new();
    let file = folder.file("c.yml", yaml);
    let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    config::load(&file, environment).map_err(|error| {
        let start = format!("{}:", file.display());
        let text = error.to_string();
        text.lines().map(|line| line.strip_prefix(&start).unwrap_or(line).to_owned()).collect()
    })
}

fn refused(yaml: &str, environment: &[(&str, &str)]) -> Vec<String> {
    match load(yaml, environment) {
        Ok(_) => panic!("accepted: {yaml} {environment:?}"),
        Err(lines) => lines,
    }
}

#[test]
fn an_empty_file_means_the_defaults() {
    let mut settings = load("# nothing yet\n", &[]).unwrap();
    let defaults = Settings::default();
    assert!(settings.service.replica_id.is_generated());
    assert_ne!(settings.service.replica_id, defaults.service.replica_id);
    settings.service.replica_id = defaults.service.replica_id.clone();
    assert_eq!(settings, defaults);
}

#[test]
fn reads_keys_of_every_kind() {
    let settings = load(
        "
service: { instance: { name: gate, replica: { id: r-1 } }, graceful-shutdown: 5 }
kaa:
  kpc: null
  applications:
    demo:
      versions:
        v1: { allowed-extension-instances: [dcx] }
        v2: null
        v3: { allowed-extension-instances: [] }
  extension-instances: { dcx: { endpoint-aware: true, push-qos: 1 }, tsx: null }
ringgate:
  shards: 3
  listen: { addresses: ['127.0.0.1', '::1'] }
  nats: { urls: ['tls://u:p@n:1'], when-unavailable: refuse }
  mqtt: { packet-bytes-max: 2048 }
  esp: { config-name: null }
  log: { format: json }
",
        &[],
    )
    .unwrap();
    assert_eq!(settings.service.instance_name, "gate");
    assert_eq!(settings.service.replica_id.as_str(), "r-1");
    assert_eq!(settings.service.graceful_shutdown_s, 5);
    let versions = &settings.kaa.applications["demo"].versions;
    assert_eq!(versions["v1"].allowed_extension_instances, Some(vec!["dcx".to_owned()]));
    assert_eq!(versions["v2"].allowed_extension_instances, None);
    assert_eq!(versions["v3"].allowed_extension_instances, Some(vec![]));
    let instances = &settings.kaa.extension_instances;
    assert!(instances["dcx"].endpoint_aware && !instances["tsx"].endpoint_aware);
    assert_eq!(instances["dcx"].push_qos, Some(1));
    assert_eq!(settings.ringgate.shards, Shards::Count(3));
    assert_eq!(settings.ringgate.listen.addresses.len(), 2);
    assert_eq!(settings.ringgate.nats.urls, [NatsUrl::parse("tls://u:p@n:1").unwrap()]);
    assert_eq!(settings.ringgate.nats.when_unavailable, WhenUnavailable::Refuse);
    assert_eq!(settings.ringgate.mqtt.packet_bytes_max, 2048);
    assert_eq!(settings.ringgate.esp.config_name, ConfigName::Null);
    assert_eq!(settings.ringgate.log.format, LogFormat::Json);
}

#[test]
fn refuses_with_line_column_key_and_reason() {
    let cases = [
        (
            "ringgate:\n  mqtt:\n    packet-bytes-max: 12\n",
            "3:23: ringgate.mqtt.packet-bytes-max: 12 is too small: at least 1024 bytes",
        ),
        ("server: { port: 65536 }", "1:17: server.port: 65536 is too large: at most 65535"),
        ("server: { port: -1 }", "1:17: server.port: -1 is too small: at least 1"),
        (
            "server: { port: 80.5 }",
            "1:17: server.port: expected a whole number, found a number with a fraction",
        ),
        ("server: { prot: 80 }", "1:11: server.prot: unknown key; did you mean port?"),
        ("frobnicate: 1", "1:1: frobnicate: unknown key"),
        (
            "extension-instances: {}",
            "1:1: extension-instances: unknown key; did you mean kaa.extension-instances?",
        ),
        (
            "server.port: 80",
            "1:1: server.port: unknown key: each part of a dotted key is a map of its own",
        ),
        ("server: { port: 80 }\nserver: null", "2:1: server: given twice"),
        ("server: 80", "1:9: server: expected a map, found a number"),
        ("[server]", "1:1: expected a map, found a list"),
        (
            "kaa: { extension-instances: [dcx] }",
            "1:29: kaa.extension-instances: expected a map, found a list",
        ),
        (
            "kaa: { kpc: { transports: { mqtt: { tcp: { enabled: yes }}}}}",
            "1:53: kaa.kpc.transports.mqtt.tcp.enabled: \"yes\" is neither true nor false",
        ),
        (
            "service: { instance: { name: 7 } }",
            "1:30: service.instance.name: expected a text, found a number; put it in quotes",
        ),
        (
            "ringgate: { log: { level: loud } }",
            "1:27: ringgate.log.level: \"loud\" is none of error, warn, info, debug, trace",
        ),
        (
            "ringgate: { auth: { endpoint-provider: cap } }",
            "1:40: ringgate.auth.endpoint-provider: \"cap\" is none of trustful, internal, ecap, \
             http",
        ),
        (
            "kaa: { applications: { a: { endpoint-provider: external } } }",
            "1:48: kaa.applications.a.endpoint-provider: \"external\" is none of trustful, \
             internal, ecap, http",
        ),
        (
            "ringgate: { auth: { http: { url: 'https://a' } } }",
            "1:34: ringgate.auth.http.url: the URL starts with http://",
        ),
        (
            "ringgate: { listen: { addresses: [\"::\", localhost] } }",
            "1:34: ringgate.listen.addresses: item 2: \"localhost\" is not an IP address",
        ),
        ("ringgate: { nats: { urls: [] } }", "1:27: ringgate.nats.urls: needs at least one item"),
        ("a: [1", "1:4: not valid YAML: unclosed bracket '['"),
        ("a: 1\n---\nb: 1\n", "3:1: not valid YAML: more than one document"),
    ];
    for (yaml, line) in cases {
        assert_eq!(refused(yaml, &[]), [line], "{yaml}");
    }
}

#[test]
fn refuses_names_that_fit_no_subject_or_topic() {
    for name in ["a.b", "a b", "*", ">", "", "a\u{7}", "a\u{a0}b"] {
        let yaml = format!("service: {{ instance: {{ name: {name:?} }} }}");
        assert_eq!(refused(&yaml, &[]).len(), 1, "{name:?}");
    }
    for name in ["a.b", "a/b", "+", "#", "", "a b"] {
        let yaml = format!("kaa: {{ extension-instances: {{ {name:?}: {{ no-such-key: 1 }} }} }}");
        assert_eq!(refused(&yaml, &[]).len(), 1, "{name:?}");
    }
    for name in ["a.b", "a/b", "a@b", "+", "#", "", "a b", "a\u{7}"] {
        let yaml = format!("ringgate: {{ tenants: {{ {name:?}: {{ no-such-key: 1 }} }} }}");
        assert_eq!(refused(&yaml, &[]).len(), 1, "{name:?}");
        for yaml in [
            format!("ringgate: {{ auth: {{ default-tenant: {name:?} }} }}"),
            format!("kaa: {{ applications: {{ a: {{ tenant: {name:?} }} }} }}"),
        ] {
            assert_eq!(refused(&yaml, &[]).len(), 1, "{name:?}");
        }
    }
    for name in ["V1", "v.1", "v/1", "ä", ""] {
        let yaml =
            format!("kaa: {{ applications: {{ a: {{ versions: {{ {name:?}: null }} }} }} }}");
        assert_eq!(refused(&yaml, &[]).len(), 1, "{name:?}");
    }
}

#[test]
fn reports_every_problem_in_the_order_of_the_file() {
    let yaml = "sever: 1\nserver: { port: x }\nringgate: { shards: 0 }\n";
    assert_eq!(
        refused(yaml, &[("RINGGATE_SHARD", "1")]),
        [
            "1:1: sever: unknown key; did you mean server?",
            "2:17: server.port: \"x\" is not a whole number",
            "3:21: ringgate.shards: 0 is too small: at least 1 shards, or auto",
            "environment variable RINGGATE_SHARD: no key has this variable; \
             did you mean RINGGATE_SHARDS?",
        ]
    );
}

#[test]
fn refuses_settings_that_contradict_each_other() {
    let cases = [
        (
            "kaa: { kpc: { transports: { mqtt: { tcp: { enabled: false }}}}}",
            "1:53: kaa.kpc.transports.mqtt.tcp.enabled: no transport is enabled: \
             no device could connect",
        ),
        (
            "ringgate: { listeners: { a: { kind: mqtts }}}",
            "1:26: ringgate.listeners.a: mqtts needs tls, the name of a profile below ringgate.tls",
        ),
        (
            "ringgate: { listeners: { a: { kind: mqtt, tls: b }}}",
            "1:48: ringgate.listeners.a.tls: kind mqtt speaks no TLS; make it mqtts",
        ),
        (
            "ringgate: { listeners: { a: { kind: mqtt, port: 1883 }}}",
            "1:49: ringgate.listeners.a.port: 1883 is taken by kaa.kpc.transports.mqtt.tcp.port on \
             the same address",
        ),
        (
            "ringgate: { tls: { door: { min-version: '1.3' }}}",
            "1:20: ringgate.tls.door: needs cert-files: at least one certificate",
        ),
        (
            "kaa: { kpc: { transports: { mqtt: { tls: { enabled: true, key-file: Cargo.toml }}}}}",
            "1:53: kaa.kpc.transports.mqtt.tls.enabled: needs \
             kaa.kpc.transports.mqtt.tls.cert-file too",
        ),
        (
            "server: { port: 1883 }",
            "1:17: server.port: 1883 is taken by kaa.kpc.transports.mqtt.tcp.port too",
        ),
        (
            "kaa: { applications: { a: { versions: { v: null }}, b: { versions: { v: null }}}}",
            "1:70: kaa.applications.b.versions.v: application a has a version of this name too",
        ),
        (
            "kaa:\n  extension-instances: { dcx: null }\n  applications: \
             { a: { versions: { v: { allowed-extension-instances: [dxc] }}}}",
            "3:70: kaa.applications.a.versions.v.allowed-extension-instances: \
             \"dxc\" is not among kaa.extension-instances; did you mean dcx?",
        ),
        (
            "ringgate: { auth: { client-provider: http }}",
            "1:38: ringgate.auth.client-provider: http needs ringgate.auth.http.url too",
        ),
        (
            "kaa: { applications: { a: { endpoint-provider: http }}}",
            "1:48: kaa.applications.a.endpoint-provider: http needs ringgate.auth.http.url too",
        ),
        (
            "ringgate: { auth: { client-provider: trustful, require: { mqtt-tcp: any }}}",
            "1:69: ringgate.auth.require.mqtt-tcp: nobody could be authenticated: \
             ringgate.auth.client-provider is trustful",
        ),
        (
            "ringgate: { auth: { client-provider: trustful }, \
             tenants: { t: { require: { mqtt-tcp: basic }}}}",
            "1:87: ringgate.tenants.t.require.mqtt-tcp: nobody could be authenticated: \
             ringgate.auth.client-provider is trustful",
        ),
        (
            "ringgate: { auth: { parked-bytes-max: 20000000 }}",
            "1:39: ringgate.auth.parked-bytes-max: 20000000 is more than \
             ringgate.auth.parked-bytes-max-per-shard, which is 16777216",
        ),
        (
            "ringgate: { nats: { username: u }}",
            "1:31: ringgate.nats.username: needs ringgate.nats.password too",
        ),
        (
            "ringgate: { nats: { token: t, urls: [\"nats://u:p@n\"] }}",
            "1:37: ringgate.nats.urls: credentials are given by ringgate.nats.token already: \
             keep one",
        ),
        (
            "ringgate: { nats: { tls: { first: true }}}",
            "1:35: ringgate.nats.tls.first: needs ringgate.nats.tls.required: true, \
             or tls:// in every URL",
        ),
        (
            "ringgate: { nats: { reconnect-delay-ms-min: 9000 }}",
            "1:45: ringgate.nats.reconnect-delay-ms-min: 9000 is more than \
             ringgate.nats.reconnect-delay-ms-max, which is 2000",
        ),
        (
            "ringgate: { read-buffers: { count: 100 }}",
            "1:36: ringgate.read-buffers.count: 100 is not a power of two",
        ),
        (
            "ringgate: { nats: { unconfirmed-bytes-max: 300000 }}",
            "1:44: ringgate.nats.unconfirmed-bytes-max: 300000 is too small: at least 1310720, \
             which is ringgate.nats.batch-bytes-max and ringgate.mqtt.packet-bytes-max together",
        ),
    ];
    for (yaml, line) in cases {
        assert_eq!(refused(yaml, &[]), [line], "{yaml}");
    }
}

#[test]
fn named_files_must_be_there_readable_and_paired() {
    let folder = Folder::new();
    let cert = folder.file("cert.pem", "x");
    let empty = folder.file("empty.pem", "");
    let tls = |keys: &str| format!("ringgate: {{ nats: {{ tls: {{ {keys} }} }} }}");
    let (cert, empty, directory) =
        (cert.display().to_string(), empty.display().to_string(), folder.0.display());

    assert!(
        load(&tls(&format!("cert-file: {cert}, key-file: {cert}, ca-file: {cert}")), &[]).is_ok()
    );
    for (keys, reason) in [
        (format!("cert-file: {cert}"), "needs ringgate.nats.tls.key-file too"),
        (format!("key-file: {cert}"), "needs ringgate.nats.tls.cert-file too"),
        (format!("ca-file: {cert}.not"), "No such file"),
        (format!("ca-file: {directory}"), "Is a directory"),
        (format!("ca-file: {empty}"), "is empty"),
        ("ca-file: /dev/zero".to_owned(), "not a regular file"),
    ] {
        let lines = refused(&tls(&keys), &[]);
        assert!(lines.len() == 1 && lines[0].contains(reason), "{keys}: {lines:?}");
    }
}

#[test]
fn the_environment_overrides_the_file() {
    let yaml = "
server: { port: 1 }
kaa: { extension-instances: { cmx-ota: { endpoint-aware: true } } }
ringgate: { nats: { urls: ['nats://file'] } }
";
    let settings = load(
        yaml,
        &[
            ("SERVER_PORT", "2"),
            ("KAA_KPC_TRANSPORTS_MQTT_TCP_PORT", "3"),
            ("KAA_EXTENSION_INSTANCES_CMX_OTA_ENDPOINT_AWARE", "false"),
            ("NATS_URLS", "nats://a, tls://b:1,"),
            ("NATS_USERNAME", "1"),
            ("RINGGATE_NATS_PASSWORD", "true"),
            ("RINGGATE_ESP_CONFIG_NAME", "null"),
            ("RINGGATE_LISTEN_ADDRESSES", "::,[::1]"),
            ("RINGGATE_SHARDS", ""),
            ("KAA_LICENSE_CERT_PATH", "/run/license"),
        ],
    )
    .unwrap();
    assert_eq!(settings.server.port, 2);
    assert_eq!(settings.kaa.mqtt_tcp.port, 3);
    assert!(!settings.kaa.extension_instances["cmx-ota"].endpoint_aware);
    let nats = &settings.ringgate.nats;
    assert_eq!(nats.urls, ["nats://a", "tls://b:1"].map(|url| NatsUrl::parse(url).unwrap()));
    assert_eq!(nats.credentials.username.as_deref(), Some("1"));
    assert_eq!(nats.credentials.password.as_ref().unwrap().expose(), "true");
    assert_eq!(settings.ringgate.esp.config_name, ConfigName::Null);
    assert_eq!(settings.ringgate.listen.addresses.len(), 2);
    assert_eq!(settings.ringgate.shards, Shards::Auto);
}

#[test]
fn refuses_bad_variables_by_name() {
    let cases = [
        (
            ("SERVER_PORT", "http"),
            "environment variable SERVER_PORT: server.port: \"http\" is not a whole number",
        ),
        (
            ("NATS_URLS", "nats://a,b"),
            "environment variable NATS_URLS: ringgate.nats.urls: item 2: \
             a NATS URL starts with nats:// or tls://",
        ),
        (
            ("RINGGATE_MQTT_PACKET_BYTE_MAX", "1"),
            "environment variable RINGGATE_MQTT_PACKET_BYTE_MAX: no key has this variable; \
             did you mean RINGGATE_MQTT_PACKET_BYTES_MAX?",
        ),
        (
            ("RINGGATE_NATS_TOKEN", "\u{fffd}"),
            "environment variable RINGGATE_NATS_TOKEN: ringgate.nats.token: not valid UTF-8",
        ),
    ];
    for (variable, line) in cases {
        assert_eq!(refused("", &[variable]), [line]);
    }
    let both = [("NATS_URLS", "nats://a"), ("RINGGATE_NATS_URLS", "nats://b")];
    assert_eq!(refused("", &both).len(), 1);
    let twins = "kaa: { extension-instances: { a-b: null, a_b: null } }";
    assert!(load(twins, &[]).is_ok());
    let variable = ("KAA_EXTENSION_INSTANCES_A_B_PUSH_QOS", "1");
    assert_eq!(refused(twins, &[variable]).len(), 1);
}

#[test]
fn secrets_are_never_shown() {
    let with = |nats: &str| format!("ringgate: {{ nats: {{ {nats} }} }}");
    for nats in [
        "username: u, password: hunter2",
        "token: hunter2",
        "urls: ['nats://u:hunter2@n']",
        "urls: ['nats://hunter2@n']",
    ] {
        let settings = load(&with(nats), &[]).unwrap();
        let shown = format!("{settings:?}{}", settings.effective_yaml());
        assert!(shown.contains("***") && !shown.contains("hunter2"), "{shown}");
    }
    for nats in [
        "token: [hunter2]",
        "token: !hunter2",
        "token: *hunter2",
        "token: \"\\hunter2",
        "password: hunter2",
        "urls: ['http://u:hunter2@n']",
        "urls: ['nats://u:hunter2@']",
        "urls: ['nats://u:x@n', 'nats://u:hunter2/@x/hunter2']",
        "urls: ['nats://u:hunter2']",
        "urls: 'nats://u:hunter2@n'",
    ] {
        let lines = refused(&with(nats), &[]);
        assert!(!format!("{lines:?}").contains("hunter2"), "{lines:?}");
    }
}

#[test]
fn the_effective_configuration_loads_as_the_same_settings() {
    let folder = Folder::new();
    let file = folder.file("creds \"x\".nk", "seed").display().to_string();
    let yaml = format!(
        "
service: {{ instance: {{ name: 'null', replica: {{ id: '007' }} }} }}
kaa:
  applications:
    a: {{ tenant: 'null', endpoint-provider: trustful, endpoint-elsewhere: reject }}
    c: {{ versions: {{ 'on': null, v2: {{ allowed-extension-instances: ['1'] }} }} }}
    b: null
  extension-instances: {{ '1': {{ push-qos: 2 }}, 'tr\"ue': null, '~': null }}
ringgate:
  shards: 2
  listen: {{ addresses: ['::'] }}
  nats: {{ urls: ['nats://[::1]:1', 'tls://n'], nkey-seed-file: {file:?} }}
  auth: {{ http: {{ url: 'http://[::1]/ask' }}, default-tenant: '7' }}
  tenants: {{ '1': {{ require: {{ mqtt-tcp: any }} }}, 'true': null }}
  credentials: {{ directory: '~' }}
  esp: {{ config-name: null }}
"
    );
    let settings = load(&yaml, &[]).unwrap();
    assert_eq!(load(&settings.effective_yaml(), &[]).unwrap(), settings);
    let defaults = load(&Settings::default().effective_yaml(), &[]).unwrap();
    assert_eq!(defaults.effective_yaml(), Settings::default().effective_yaml());
}

fn ringgate(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringgate"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn check_touches_neither_network_nor_disk() {
    let nats = TcpListener::bind("127.0.0.1:0").unwrap();
    let mqtt = TcpListener::bind("127.0.0.1:0").unwrap();
    let management = TcpListener::bind("127.0.0.1:0").unwrap();
    nats.set_nonblocking(true).unwrap();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let folder = Folder::new();
    let file = folder.file(
        "c.yml",
        &format!(
            "server: {{ port: {} }}\n\
             kaa:\n\
             \x20 kpc: {{ transports: {{ mqtt: {{ tcp: {{ port: {} }}}}}}}}\n\
             \x20 applications: {{ a: {{ endpoint-provider: trustful }}}}\n\
             ringgate:\n\
             \x20 nats: {{ urls: ['nats://127.0.0.1:{}'] }}\n\
             \x20 credentials: {{ directory: 'store' }}\n",
            port(&management),
            port(&mqtt),
            port(&nats),
        ),
    );
    let output = ringgate(&["check", "--config", file.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains(&format!("port: {}\n", port(&mqtt))), "{output:?}");
    assert!(text(&output.stderr).contains("ANY endpoint token is accepted"), "{output:?}");
    assert!(nats.accept().is_err());
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
}

#[test]
fn a_bad_configuration_or_command_line_exits_with_2() {
    let folder = Folder::new();
    let bad = folder.file("bad.yml", "sever: 1\n");
    let bad = bad.to_str().unwrap();
    for command in ["check", "run"] {
        let output = ringgate(&[command, "--config", bad], &[]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let line = format!("{bad}:1:1: sever: unknown key; did you mean server?\n");
        assert!(text(&output.stderr).ends_with(&line), "{output:?}");
    }
    let output = ringgate(&["check"], &[("APP_CONFIG_PATH", bad)]);
    assert!(text(&output.stderr).contains("sever"), "{output:?}");
    let output = ringgate(&["check", "--config", "/no/such/file"], &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("/no/such/file: cannot be read: "), "{output:?}");
    assert_eq!(ringgate(&["chekc"], &[]).status.code(), Some(2));
    assert_eq!(ringgate(&[], &[]).status.code(), Some(2));
}

#[test]
fn says_how_to_name_a_file_where_there_is_none() {
    if std::path::Path::new("/srv/kpc/service-config.yml").exists() {
        return;
    }
    let output = ringgate(&["check"], &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = text(&output.stderr);
    assert!(said.contains("--config FILE") && said.contains("APP_CONFIG_PATH"), "{said}");
}

#[test]
fn help_and_version_exit_with_0() {
    let help = ringgate(&["--help"], &[]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("Exit codes:"), "{help:?}");
    let version = ringgate(&["--version"], &[]);
    assert_eq!(text(&version.stdout), concat!("ringgate ", env!("CARGO_PKG_VERSION"), "\n"));
}
