//! Avro records by the name of their schema file: apache-avro, nothing of ringgate's.

use std::collections::HashMap;
use std::path::Path;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;

use super::extension::now_ms;

/// The schema in `tests/schemas/<name>.avsc`.
fn schema(name: &str) -> Schema {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemas");
    let text = std::fs::read_to_string(folder.join(format!("{name}.avsc"))).expect("a schema");
    Schema::parse_str(&text).expect("a valid schema")
}

/// A datum with the header every message has: correlation id, the time, no timeout.
pub fn encode(name: &str, correlation_id: &str, fields: &[(&str, Value)]) -> Vec<u8> {
    let header = [
        ("correlationId", Value::String(correlation_id.to_owned())),
        ("timestamp", Value::Long(now_ms())),
        ("timeout", Value::Long(0)),
    ];
    let fields = header.iter().chain(fields);
    let record = fields.map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let schema = schema(name);
    let writer = GenericDatumWriter::builder(&schema).build();
    writer
        .and_then(|writer| writer.write_value_to_vec(Value::Record(record)))
        .expect("a record of its schema")
}

/// A text.
pub fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

/// A text of a union that names null second.
pub fn text_or_null(value: Option<&str>) -> Value {
    match value {
        Some(value) => Value::Union(0, Box::new(text(value))),
        None => Value::Union(1, Box::new(Value::Null)),
    }
}

/// A text of a union that names null first.
pub fn null_or_text(value: Option<&str>) -> Value {
    match value {
        Some(value) => Value::Union(1, Box::new(text(value))),
        None => Value::Union(0, Box::new(Value::Null)),
    }
}

/// Reads a whole datum; `None` when it is not exactly one of that schema. What was read is written
/// again and measured, as apache-avro forgives a datum that ends early; maps have no order.
fn read_whole(schema: &Schema, datum: &[u8]) -> Option<Value> {
    let reader = GenericDatumReader::builder(schema).build().expect("a valid schema");
    let writer = GenericDatumWriter::builder(schema).build().expect("a valid schema");
    let mut rest = datum;
    let value = reader.read_value(&mut rest).ok()?;
    let again = writer.write_value_to_vec(value.clone()).ok()?;
    (rest.is_empty() && again.len() == datum.len()).then_some(value)
}

/// The fields of a record.
pub struct Fields(HashMap<String, Value>);

impl Fields {
    /// Reads a whole datum; panics when it is not exactly one of that schema.
    pub fn decode(name: &str, datum: &[u8]) -> Self {
        match read_whole(&schema(name), datum) {
            Some(Value::Record(fields)) => Self(fields.into_iter().collect()),
            other => panic!("no {name}: {other:?} from {datum:02x?}"),
        }
    }

    fn get(&self, name: &str) -> &Value {
        match self.0.get(name).unwrap_or_else(|| panic!("no field {name}")) {
            Value::Union(_, inner) => inner,
            value => value,
        }
    }

    /// A text, or none where there is a null.
    pub fn optional_text(&self, name: &str) -> Option<String> {
        match self.get(name) {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => panic!("{name} is {other:?}"),
        }
    }

    pub fn text(&self, name: &str) -> String {
        self.optional_text(name).unwrap_or_else(|| panic!("{name} is null"))
    }

    pub fn long(&self, name: &str) -> i64 {
        match self.get(name) {
            Value::Long(number) => *number,
            other => panic!("{name} is {other:?}"),
        }
    }

    /// A map of texts.
    pub fn texts(&self, name: &str) -> HashMap<String, String> {
        let Value::Map(entries) = self.get(name) else { panic!("{name} is no map") };
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => panic!("{name} has {other:?}"),
        };
        entries.iter().map(|(key, value)| (key.clone(), text(value))).collect()
    }
}
