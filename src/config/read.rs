//! From a YAML tree and the environment to settings, with a note of where each came from.

use std::collections::{BTreeMap, BTreeSet};

use super::auth::Tenant;
use super::doors::{ListenerSettings, Tls};
use super::error::{Place, Problem};
use super::field::{application_name, extension_name, subject_token, tenant_name};
use super::keys::{Key, keys};
use super::node::{Entry, Node, Value};
use super::settings::{AppVersion, Application, ExtensionInstance, Settings};
use super::suggest::nearest;

/// What came of reading so far.
#[derive(Default)]
pub(super) struct Reading {
    /// Where each given key was given last.
    places: BTreeMap<String, Place>,
    /// Keys of which the parts below have been refused as a whole.
    refused: BTreeSet<String>,
    pub problems: Vec<Problem>,
}

impl Reading {
    /// Refuses a key at the place where it was given.
    pub fn refuse(&mut self, key: &str, reason: impl Into<String>) {
        let place = self.places.get(key).cloned().unwrap_or(Place::File);
        self.refuse_at(&place, key, reason);
    }

    fn refuse_at(&mut self, place: &Place, key: &str, reason: impl Into<String>) {
        let (place, key, reason) = (place.clone(), key.to_owned(), reason.into());
        self.problems.push(Problem { place, key, reason });
    }
}

/// Reads everything; settings that are refused keep their defaults.
pub(super) fn read(root: &Node, environment: &BTreeMap<String, String>) -> (Settings, Reading) {
    let mut settings = Settings::default();
    let mut reading = Reading::default();
    read_applications(root, &mut settings, &mut reading);
    read_extension_instances(root, &mut settings, &mut reading);
    read_tenants(root, &mut settings, &mut reading);
    read_doors(root, &mut settings, &mut reading);

    let mut keys = keys(&mut settings);
    for key in &mut keys {
        read_file(key, root, &mut reading);
    }
    read_environment(&mut keys, environment, &mut reading);
    let known: BTreeSet<String> = keys.into_iter().map(|key| key.path).collect();
    refuse_unknown(root, "", &known, &mut reading);
    (settings, reading)
}

/// Makes an entry for each application and version that the file names.
fn read_applications(root: &Node, settings: &mut Settings, reading: &mut Reading) {
    for name in names(root, "kaa.applications", application_name, reading) {
        let versions = format!("kaa.applications.{name}.versions");
        let versions = names(root, &versions, application_name, reading);
        let versions = versions.into_iter().map(|name| (name, AppVersion::default())).collect();
        settings.kaa.applications.insert(name, Application { versions, ..Application::default() });
    }
}

/// Makes an entry for each extension instance that the file names.
fn read_extension_instances(root: &Node, settings: &mut Settings, reading: &mut Reading) {
    for name in names(root, "kaa.extension-instances", extension_name, reading) {
        settings.kaa.extension_instances.insert(name, ExtensionInstance::default());
    }
}

/// Makes an entry for each tenant that the file names.
fn read_tenants(root: &Node, settings: &mut Settings, reading: &mut Reading) {
    for name in names(root, "ringgate.tenants", tenant_name, reading) {
        settings.ringgate.tenants.insert(name, Tenant::default());
    }
}

/// Makes an entry for each listener and TLS profile that the file names.
fn read_doors(root: &Node, settings: &mut Settings, reading: &mut Reading) {
    for name in names(root, "ringgate.listeners", subject_token, reading) {
        settings.ringgate.listeners.insert(name, ListenerSettings::default());
    }
    for name in names(root, "ringgate.tls", subject_token, reading) {
        settings.ringgate.tls.insert(name, Tls::default());
    }
}

/// The keys of a map whose keys the operator chooses; bad ones are refused with all below them.
fn names(
    root: &Node,
    path: &str,
    check: fn(&str) -> Result<String, String>,
    reading: &mut Reading,
) -> Vec<String> {
    let Some(node) = root.find(path) else { return Vec::new() };
    let entries = match &node.value {
        Value::Map(entries) => entries.as_slice(),
        Value::Null => &[],
        other => {
            reading.refuse_at(&node.place, path, expected_a_map(other));
            &[]
        }
    };
    let mut names = Vec::new();
    for entry in entries {
        let key = format!("{path}.{}", entry.key);
        match check(&entry.key) {
            Ok(name) => {
                reading.places.entry(key).or_insert_with(|| entry.place.clone());
                names.push(name);
            }
            Err(reason) => {
                reading.refuse_at(&entry.place, &key, reason);
                reading.refused.insert(key);
            }
        }
    }
    names
}

fn read_file(key: &mut Key<'_>, root: &Node, reading: &mut Reading) {
    if let Some(node) = root.find(&key.path) {
        reading.places.insert(key.path.clone(), node.place.clone());
        if let Err(reason) = key.field.read(&node.value) {
            reading.refuse(&key.path, reason);
        }
    }
}

/// Lets the environment override what the file said, and refuses variables of ours that no key
/// goes by.
fn read_environment(
    keys: &mut [Key<'_>],
    environment: &BTreeMap<String, String>,
    reading: &mut Reading,
) {
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for key in keys {
        let mut given: Option<&str> = None;
        for variable in key.variables() {
            let place = Place::Variable(variable.clone());
            if let Some(other) = owners.insert(variable.clone(), key.path.clone())
                && environment.contains_key(&variable)
            {
                reading.refuse_at(&place, &key.path, format!("the name could mean {other} too"));
            }
            let Some(text) = environment.get(&variable) else { continue };
            if given.is_some_and(|other| other != text) {
                reading.refuse_at(&place, &key.path, "set to something else by another variable");
            }
            given = Some(text);
            reading.places.insert(key.path.clone(), place);
            let outcome = if text.contains(char::REPLACEMENT_CHARACTER) {
                Err("not valid UTF-8".to_owned())
            } else {
                key.field.read_variable(text)
            };
            if let Err(reason) = outcome {
                reading.refuse(&key.path, reason);
            }
        }
    }
    let is_ours = |name: &&String| name.starts_with("RINGGATE_") && !is_for_tests(name);
    for variable in environment.keys().filter(is_ours) {
        if !owners.contains_key(variable) {
            let near = nearest(variable, owners.keys().map(String::as_str));
            let reason = unknown("no key has this variable", near);
            reading.refuse_at(&Place::Variable(variable.clone()), "", reason);
        }
    }
}

/// Walks the file for keys that mean nothing, keys given twice, and values where a map belongs.
fn refuse_unknown(node: &Node, path: &str, known: &BTreeSet<String>, reading: &mut Reading) {
    let entries = match &node.value {
        Value::Map(entries) => entries,
        Value::Null => return,
        other => return reading.refuse_at(&node.place, path, expected_a_map(other)),
    };
    let mut seen = BTreeSet::new();
    for Entry { key, place, node } in entries {
        let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if !seen.insert(key) {
            reading.refuse_at(place, &full, "given twice");
        } else if reading.refused.contains(&full) {
            continue;
        } else if key.contains('.') {
            let reason = "unknown key: each part of a dotted key is a map of its own";
            reading.refuse_at(place, &full, reason);
        } else if children(known, &full).next().is_some() {
            refuse_unknown(node, &full, known, reading);
        } else if !known.contains(&full) {
            let reason = unknown("unknown key", suggestion(path, key, known).as_deref());
            reading.refuse_at(place, &full, reason);
        }
    }
}

/// What the known keys have directly below a path.
fn children<'a>(known: &'a BTreeSet<String>, path: &str) -> impl Iterator<Item = &'a str> {
    let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
    known.iter().filter_map(move |key| key.strip_prefix(&prefix)?.split('.').next())
}

/// A known key like this one: in the same map, else of the same name elsewhere.
fn suggestion(path: &str, key: &str, known: &BTreeSet<String>) -> Option<String> {
    if let Some(near) = nearest(key, children(known, path)) {
        return Some(near.to_owned());
    }
    let end = format!(".{key}");
    known.iter().find_map(|known| {
        let at = known.match_indices(&end).map(|(at, end)| at + end.len());
        at.filter(|&at| known[at..].is_empty() || known[at..].starts_with('.'))
            .map(|at| known[..at].to_owned())
            .next()
    })
}

fn unknown(what: &str, near: Option<&str>) -> String {
    match near {
        Some(near) => format!("{what}; did you mean {near}?"),
        None => what.to_owned(),
    }
}

fn expected_a_map(found: &Value) -> String {
    format!("expected a map, found {}", found.kind())
}

/// Debug builds can be told to fail, for tests (`shard::settings::FAULT_VARIABLE`).
fn is_for_tests(variable: &str) -> bool {
    cfg!(debug_assertions) && variable.starts_with("RINGGATE_FAULT_")
}
