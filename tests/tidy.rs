//! Reads the sources and fails where the house rules are broken: what a room may know of others,
//! where `unsafe` and the runtime may be named, sizes, leftovers, and calls that are not to be
//! used.

use std::collections::HashSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// What each room may name of the crate, with a longer path where only a part of a room is meant.
/// A part of a room with an entry of its own is held to that one.
const ARROWS: [(&str, &[&str]); 18] = [
    ("cli", &["config"]),
    ("codec", &[]),
    ("rt", &[]),
    ("telemetry", &[]),
    ("config", &[]),
    ("auth", &["telemetry", "config"]),
    ("credentials", &["auth", "codec", "telemetry", "config"]),
    ("session", &["codec", "telemetry"]),
    ("uplink/ledger", &[]),
    ("uplink", &["codec", "rt", "telemetry", "config"]),
    ("transport", &["telemetry"]),
    ("tls", &["auth", "config"]),
    (
        "shard",
        &["session", "uplink", "transport", "tls", "auth", "codec", "rt", "telemetry", "config"],
    ),
    ("admin", &["telemetry", "credentials", "auth", "config"]),
    (
        "control",
        &[
            "admin",
            "auth",
            "credentials",
            "shard::mail",
            "tls",
            "codec",
            "rt",
            "telemetry",
            "config",
        ],
    ),
    ("providers", &["control", "credentials", "admin", "shard", "session", "auth", "config"]),
    (
        "server",
        &[
            "providers",
            "credentials",
            "control",
            "shard",
            "session",
            "uplink",
            "transport",
            "tls",
            "auth",
            "codec",
            "rt",
            "telemetry",
            "config",
        ],
    ),
    ("lib", &[]),
];
/// Rooms without input, output, clock, thread, runtime and logging.
const PURE: [&str; 3] = ["codec/", "session/", "uplink/ledger/"];
const IMPURE: [&str; 12] = [
    "std::net",
    "std::fs",
    "std::io",
    "std::os",
    "std::thread",
    "std::env",
    "std::process",
    "Instant",
    "SystemTime",
    "tracing::",
    "tokio::",
    "libc::",
];
const COLUMNS_MAX: usize = 100;
const LINES_MAX: usize = 700;
/// The one kind of place where a test may sleep: between two looks at a condition, and where it is
/// time itself that must pass.
const MAY_SLEEP: [&str; 3] = ["fn until", "fn eventually_within", "fn let_time_pass"];

/// A word that must not stand in this file either.
macro_rules! word {
    ($($part:literal)*) => { concat!($($part),*) };
}

/// A source file of the library or the binary.
struct Source {
    /// Path below `src`, with `/`.
    name: String,
    text: String,
    /// The text without comments, strings and test modules.
    code: String,
    is_test: bool,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files below `folder` whose extension is one of these, in order.
fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for path in entries.flatten().map(|entry| entry.path()) {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let is_build = path.join("CACHEDIR.TAG").exists();
        if path.is_dir() && !is_build {
            found.extend(files(&path, extensions));
        } else if extensions.contains(&extension.unwrap_or_default()) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every Rust file of the project.
fn rust_files() -> Vec<PathBuf> {
    let folders = ["src", "tests", "bench", "fuzz", "docs"];
    folders.iter().flat_map(|folder| files(&root().join(folder), &["rs"])).collect()
}

fn name_of(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned()
}

/// Rust without comments and without what is inside string and character literals; lines stay.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(len) = literal(rest) {
            len
        } else {
            let next = rest.chars().next().map_or(1, char::len_utf8);
            code.push_str(&rest[..next]);
            at += next;
            continue;
        };
        code.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
        at += skipped;
    }
    code
}

/// Length of the string or character literal that `rest` begins with.
fn literal(rest: &str) -> Option<usize> {
    let raw = rest.strip_prefix('r').or_else(|| rest.strip_prefix("br"));
    if let Some(raw) = raw.filter(|raw| raw.starts_with(['"', '#'])) {
        let hashes = raw.bytes().take_while(|byte| *byte == b'#').count();
        let body = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(rest.len() - body.len() + body.find(&end)? + end.len());
    }
    let quote = *rest.as_bytes().first().filter(|byte| matches!(byte, b'"' | b'\''))?;
    if quote == b'\'' && !rest[1..].starts_with('\\') && rest.chars().nth(2) != Some('\'') {
        return None; // a lifetime
    }
    let mut escaped = false;
    let end = rest.bytes().skip(1).position(|byte| {
        let is_end = byte == quote && !escaped;
        escaped = byte == b'\\' && !escaped;
        is_end
    });
    end.map(|end| end + 2)
}

/// The part of a file before its test modules.
fn without_tests(code: &str) -> &str {
    let test = ["mod ", "pub mod ", "pub(crate) mod ", "pub(super) mod "];
    let begins = test.map(|begin| format!("\n#[cfg(test)]\n{begin}"));
    let at = begins.iter().filter_map(|begin| code.find(begin.as_str())).min();
    &code[..at.unwrap_or(code.len())]
}

/// All files that `mod` items lead to, from `src/lib.rs` and `src/main.rs`.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for file in ["lib.rs", "main.rs"] {
        follow(&root().join("src"), file, false, &mut found);
    }
    found
}

fn follow(folder: &Path, file: &str, is_test: bool, found: &mut Vec<Source>) {
    let path = folder.join(file);
    let text = read(&path);
    let code = code_of(&text);
    let stem = file.trim_end_matches(".rs");
    let children = match stem {
        "lib" | "main" | "mod" => folder.to_owned(),
        _ => folder.join(stem),
    };
    let mut before = "";
    for line in code.lines() {
        let item = ["pub(crate) ", "pub(super) ", "pub "]
            .iter()
            .fold(line, |line, prefix| line.strip_prefix(prefix).unwrap_or(line));
        if let Some(name) = item.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
            let is_test = is_test || before == "#[cfg(test)]";
            if children.join(format!("{name}.rs")).exists() {
                follow(&children, &format!("{name}.rs"), is_test, found);
            } else {
                follow(&children.join(name), "mod.rs", is_test, found);
            }
        }
        before = line;
    }
    let name = path.strip_prefix(root().join("src")).unwrap_or(&path);
    let name = name.to_string_lossy().replace('\\', "/");
    found.push(Source { name, code: without_tests(&code).to_owned(), text, is_test });
}

/// Paths that `code` names behind `crate::`, groups taken apart.
fn crate_paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '$')) {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let is_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
        let path: String = rest.chars().take_while(|c| is_path(*c)).collect();
        let group = rest[path.len()..].strip_prefix('{').and_then(|rest| rest.split('}').next());
        match group {
            None => paths.push(path),
            Some(group) => {
                let names = group.split(',').map(str::trim).filter(|name| !name.is_empty());
                paths.extend(names.map(|name| format!("{path}{name}")));
            }
        }
    }
    paths
}

fn is_within(path: &str, prefix: &str) -> bool {
    path == prefix || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with("::"))
}

/// Collects complaints and fails with all of them at once.
#[derive(Default)]
struct Complaints(String);

impl Complaints {
    fn add(&mut self, place: &str, what: &str) {
        writeln!(self.0, "{place}: {what}").expect("writes to memory");
    }

    fn end(self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}

#[test]
fn arrows_between_rooms_go_down_only() {
    let mut complaints = Complaints::default();
    for source in sources().iter().filter(|source| !source.is_test && source.name != "main.rs") {
        let room = source.name.trim_end_matches(".rs").trim_end_matches("/mod");
        let entry = ARROWS
            .iter()
            .find(|(of, _)| is_within(&room.replace('/', "::"), &of.replace('/', "::")));
        let Some((own, allowed)) = entry else {
            complaints.add(&source.name, "no arrows are laid down for this room");
            continue;
        };
        let own = own.replace('/', "::");
        for path in crate_paths(&source.code) {
            let may = is_within(&path, &own) || allowed.iter().any(|room| is_within(&path, room));
            if !may {
                complaints.add(&source.name, &format!("may not know crate::{path}"));
            }
        }
        if source.code.contains(word!("super::" "super::super")) {
            complaints.add(&source.name, "reaches too far up");
        }
    }
    complaints.end();
}

#[test]
fn the_session_knows_only_the_labels_of_telemetry() {
    let labels = read(&root().join("src/telemetry/labels.rs"));
    let words: HashSet<&str> = labels.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let mut complaints = Complaints::default();
    for source in sources().iter().filter(|source| source.name.starts_with("session/")) {
        for path in crate_paths(&source.code) {
            let name = path.strip_prefix("telemetry::");
            if name.is_some_and(|name| !words.contains(name)) {
                complaints.add(&source.name, &format!("crate::{path} is no label"));
            }
        }
    }
    complaints.end();
}

#[test]
fn pure_rooms_do_nothing_but_decide() {
    let mut complaints = Complaints::default();
    for source in sources() {
        if PURE.iter().any(|room| source.name.starts_with(room)) && !source.is_test {
            for word in IMPURE.iter().filter(|word| source.code.contains(**word)) {
                complaints.add(&source.name, &format!("names {word} in a pure room"));
            }
        }
    }
    complaints.end();
}

#[test]
fn only_the_runtime_room_names_the_runtime_and_is_unsafe() {
    let mut complaints = Complaints::default();
    for source in sources().iter().filter(|source| !source.name.starts_with("rt/")) {
        // Tests included: what they need of it, the room offers.
        let code = code_of(&source.text);
        for word in [word!("mon" "oio"), word!("io_" "uring"), word!("uns" "afe")] {
            let is_word = |(at, _): (usize, &str)| {
                let is_part = |c: char| c.is_alphanumeric() || c == '_';
                !code[..at].ends_with(is_part) && !code[at + word.len()..].starts_with(is_part)
            };
            if code.match_indices(word).any(is_word) {
                complaints.add(&source.name, &format!("{word} belongs in src/rt"));
            }
        }
    }
    complaints.end();
}

#[test]
fn names_are_resolved_in_one_place_which_has_a_thread_of_its_own() {
    // Resolving blocks its thread, and a shard's thread must never block.
    const RESOLVER: &str = "uplink/servers.rs";
    let mut complaints = Complaints::default();
    for source in sources().iter().filter(|source| !source.is_test) {
        let resolves = ["to_socket_addrs", "ToSocketAddrs", "lookup_host", "getaddrinfo"]
            .iter()
            .any(|word| source.code.contains(word));
        if resolves && source.name != RESOLVER {
            complaints.add(&source.name, "resolves names");
        }
        if source.name == RESOLVER && !(resolves && source.code.contains("thread::")) {
            complaints.add(&source.name, "resolves no names on a thread of its own any more");
        }
    }
    complaints.end();
}

#[test]
fn every_source_file_is_part_of_the_program() {
    let known: HashSet<PathBuf> =
        sources().iter().map(|source| root().join("src").join(&source.name)).collect();
    let mut complaints = Complaints::default();
    for path in files(&root().join("src"), &["rs"]) {
        if !known.contains(&path) {
            complaints.add(&name_of(&path), "no mod item leads here");
        }
    }
    complaints.end();
    assert!(known.len() > 50, "the walk has missed most of the program");
}

#[test]
fn lines_and_files_are_short() {
    let mut complaints = Complaints::default();
    for path in rust_files() {
        let text = read(&path);
        for (number, line) in (1..).zip(text.lines()) {
            if line.chars().count() > COLUMNS_MAX {
                complaints.add(&format!("{}:{number}", name_of(&path)), "is too long a line");
            }
        }
        if text.lines().count() > LINES_MAX {
            complaints.add(&name_of(&path), "has too many lines: split it");
        }
    }
    complaints.end();
}

#[test]
fn nothing_is_left_to_do_or_switched_off() {
    let leftovers = [
        word!("TO" "DO"),
        word!("FIX" "ME"),
        word!("XX" "X:"),
        word!("todo" "!("),
        word!("unimpl" "emented!("),
        word!("dbg" "!("),
        word!("#[ign" "ore"),
    ];
    let mut complaints = Complaints::default();
    for path in rust_files().into_iter().chain(files(&root().join("scripts"), &["sh", ""])) {
        let text = read(&path);
        for leftover in leftovers.iter().filter(|leftover| text.contains(**leftover)) {
            complaints.add(&name_of(&path), &format!("{leftover} is left"));
        }
    }
    complaints.end();
}

#[test]
fn no_path_of_one_machine_is_named() {
    let paths = [word!("/wo" "rk/"), word!("/ro" "ot/"), word!("/ho" "me/"), word!("../sha" "red")];
    let extensions = ["rs", "md", "toml", "yml", "yaml", "sh", "py", "service", "conf", "avsc", ""];
    let folders = ["src", "tests", "bench", "fuzz", "docs", "scripts", "tuning", ".ci"];
    let mut found: Vec<PathBuf> =
        folders.iter().flat_map(|folder| files(&root().join(folder), &extensions)).collect();
    found.extend(["README.md", "Cargo.toml"].map(|file| root().join(file)));
    let mut complaints = Complaints::default();
    for path in found {
        let text = String::from_utf8_lossy(&fs::read(&path).expect("reads")).into_owned();
        for named in paths.iter().filter(|named| text.contains(**named)) {
            complaints.add(&name_of(&path), &format!("names {named}"));
        }
    }
    complaints.end();
}

#[test]
fn the_program_does_not_unwrap() {
    let mut complaints = Complaints::default();
    for source in sources().iter().filter(|source| !source.is_test) {
        for (number, line) in (1..).zip(source.code.lines()) {
            if line.contains(word!(".unw" "rap()")) {
                complaints.add(&format!("{}:{number}", source.name), "unwraps without a reason");
            }
        }
    }
    complaints.end();
}

#[test]
fn no_test_waits_by_guessing_how_long_something_takes() {
    let mut complaints = Complaints::default();
    let tests = files(&root().join("tests"), &["rs"]);
    for path in tests.into_iter().chain(files(&root().join("src"), &["rs"])) {
        let code = code_of(&read(&path));
        let mut function = "";
        for (number, line) in (1..).zip(code.lines()) {
            let item = line.trim_start();
            if item.starts_with("fn ") || item.starts_with("pub fn ") {
                function = item.trim_start_matches("pub ");
            }
            let may = MAY_SLEEP.iter().any(|name| function.starts_with(name));
            if line.contains(word!("thread::" "sleep")) && !may {
                complaints.add(&format!("{}:{number}", name_of(&path)), "sleeps");
            }
        }
    }
    complaints.end();
}

#[test]
fn the_reader_of_sources_can_tell_code_from_text() {
    let text = "a /* b */ 'c' \"d // e\" // f\nr#\"g \" h\"# 'i: '\\'' b'\"' j";
    let code = code_of(text);
    let kept: String = code.chars().filter(|c| c.is_alphabetic()).collect();
    assert_eq!(kept, "aibj", "{code}");
    assert_eq!(code.lines().count(), text.lines().count());
    let paths = crate_paths("use crate::a::{B, c::D}; x(crate::e::f()); $crate::g; mycrate::h");
    assert_eq!(paths, ["a::B", "a::c::D", "e::f"]);
    assert_eq!(without_tests("x\n#[cfg(test)]\nmod tests {\n y\n}"), "x");
    assert!(is_within("a::b", "a") && !is_within("ab", "a"));
}
