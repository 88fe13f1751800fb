//! Records as text for people.

use serde_json::Value;

/// A column: its head, and what stands in it.
pub(super) type Column = (&'static str, fn(&Value) -> String);

/// Fields that people look for, in this order; others follow.
const ORDER: [&str; 13] = [
    "id",
    "state",
    "tenantId",
    "username",
    "mqttUsername",
    "appName",
    "endpointId",
    "commonName",
    "issuer",
    "serialNumber",
    "notAfter",
    "createdDate",
    "updatedDate",
];
/// Spaces between columns.
const GAP: usize = 2;

/// A field as text: empty where there is none. Control characters, which could move the cursor of
/// a terminal, are replaced.
pub(super) fn field(record: &Value, name: &str) -> String {
    let text = match &record[name] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.replace(char::is_control, "\u{fffd}")
}

/// A point in time to the second, in UTC.
pub(super) fn time(record: &Value, name: &str) -> String {
    let text = field(record, name);
    let second = text.get(..19).filter(|second| second.is_ascii());
    second.map_or(text.clone(), |second| second.replace('T', " "))
}

/// A table with one line for each record.
pub(super) fn table(columns: &[Column], records: &[Value]) -> String {
    let mut lines = vec![columns.iter().map(|(head, _)| (*head).to_owned()).collect::<Vec<_>>()];
    lines.extend(
        records.iter().map(|record| columns.iter().map(|(_, cell)| cell(record)).collect()),
    );
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(|at| width(at) + GAP).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths);
        let padded: String = cells.map(|(cell, width)| format!("{cell:width$}")).collect();
        text += padded.trim_end();
        text.push('\n');
    }
    text
}

/// One record, a line for each field.
pub(super) fn record(record: &Value) -> String {
    let Some(fields) = record.as_object() else { return String::new() };
    let mut names: Vec<&str> = fields.keys().map(String::as_str).collect();
    names.sort_by_key(|name| ORDER.iter().position(|of| of == name).unwrap_or(ORDER.len()));
    let heads: Vec<String> = names.iter().map(|name| spaced(name) + ":").collect();
    let width = heads.iter().map(|head| head.chars().count()).max().unwrap_or(0) + GAP;
    let lines = names.into_iter().zip(heads).map(|(name, head)| {
        let value = if name.ends_with("Date") || name == "notAfter" {
            time(record, name) + " UTC"
        } else {
            field(record, name)
        };
        format!("{head:width$}{value}\n")
    });
    lines.collect()
}

/// `lastUseDate` as `last use date`.
fn spaced(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            text.push(' ');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let columns: [Column; 2] = [("ID", |r| field(r, "id")), ("NAME", |r| field(r, "name"))];
        let records = [json!({"id": "längste", "name": "a"}), json!({"id": 1})];
        assert_eq!(table(&columns, &records), "ID       NAME\nlängste  a\n1\n");
    }

    #[test]
    fn a_record_is_shown_field_by_field() {
        let shown = record(&json!({"createdDate": "2026-01-02T03:04:05.678Z", "id": "x\u{1b}[2J"}));
        let expected = "id:            x\u{fffd}[2J\ncreated date:  2026-01-02 03:04:05 UTC\n";
        assert_eq!(shown, expected);
    }
}
