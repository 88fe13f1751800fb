//! The effective configuration as YAML.

use super::field::quote;
use super::keys::keys;
use super::settings::Settings;

impl Settings {
    /// Every setting with its effective value, in the shape of a configuration file.
    ///
    /// Secrets are masked, and a generated replica id is left to be generated again; apart from
    /// that, the text loads as the same settings.
    pub fn effective_yaml(&self) -> String {
        let mut settings = self.clone();
        let mut yaml = String::new();
        let mut open: Vec<&str> = Vec::new();
        let keys = keys(&mut settings);
        for key in &keys {
            let path: Vec<&str> = key.path.split('.').collect();
            let shared = open.iter().zip(&path).take_while(|(a, b)| a == b).count();
            for (depth, name) in path.iter().enumerate().skip(shared) {
                yaml.push_str(&"  ".repeat(depth));
                yaml.push_str(&show_name(name));
                if depth + 1 < path.len() {
                    yaml.push_str(":\n");
                } else {
                    yaml.push_str(&format!(": {}\n", key.field.show()));
                }
            }
            open = path;
        }
        yaml
    }
}

/// A key, in quotes unless it is a plain word that YAML takes for nothing else.
fn show_name(name: &str) -> String {
    const TAKEN: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
        && !TAKEN.contains(&name);
    if plain { name.to_owned() } else { quote(name) }
}
