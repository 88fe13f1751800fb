//! A YAML document as a tree that knows where each part stands.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{DefaultMessageFormatter, Location, MessageFormatter, Spanned};

use super::error::{Place, Problem};

/// A value and its place.
#[derive(Debug)]
pub(super) struct Node {
    pub place: Place,
    pub value: Value,
}

/// What YAML can say.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Flag(bool),
    Integer(i128),
    /// A number with a fraction or an exponent: no setting is one.
    Fraction,
    Text(String),
    List(Vec<Node>),
    /// In the order of the file, duplicates included.
    Map(Vec<Entry>),
}

/// A key of a map, its place and its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub key: String,
    pub place: Place,
    pub node: Node,
}

/// Reads one YAML document; an empty file is a null.
pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    let options = serde_saphyr::options! {
        // Found by the reader, which knows the dotted key.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        reject_unsupported_tags: true,
        // A snippet could show a secret.
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Value>>(text, options) {
        Ok(root) => Ok(root.into()),
        Err(error) => Err(Problem {
            place: error.location().map_or(Place::File, place),
            key: String::new(),
            reason: format!("not valid YAML: {}", explain(&error)),
        }),
    }
}

/// The reason without the library's hints to programmers, and without text that could be secret.
fn explain(error: &serde_saphyr::Error) -> String {
    match error {
        serde_saphyr::Error::UnsupportedTag { .. } => {
            "unknown tag; a text that begins with `!` needs quotes".into()
        }
        serde_saphyr::Error::MultipleDocuments { .. } => "more than one document".into(),
        _ => DefaultMessageFormatter.format_message(error).replace(char::is_control, " "),
    }
}

impl Node {
    /// The node under a dotted key, if the file has it; the first one of duplicates.
    pub fn find(&self, key: &str) -> Option<&Node> {
        key.split('.').try_fold(self, |node, name| match &node.value {
            Value::Map(entries) => {
                entries.iter().find(|entry| entry.key == name).map(|entry| &entry.node)
            }
            _ => None,
        })
    }
}

impl Value {
    /// What this is, for a message; secrets may be among the values, so not the value itself.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Flag(_) => "true or false",
            Self::Integer(_) => "a number",
            Self::Fraction => "a number with a fraction",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

fn place(location: Location) -> Place {
    match (location.line(), location.column()) {
        (0, _) => Place::File,
        (line, column) => Place::At { line, column },
    }
}

impl From<Spanned<Value>> for Node {
    fn from(spanned: Spanned<Value>) -> Self {
        Self { place: place(spanned.referenced), value: spanned.value }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar, a list or a map")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Flag(flag))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Fraction)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Value>>()? {
            list.push(item.into());
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = items.next_key::<Spanned<String>>()? {
            let node = items.next_value::<Spanned<Value>>()?.into();
            entries.push(Entry { key: key.value, place: place(key.referenced), node });
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_place_of_keys_values_and_items() {
        let root = parse("a:\n  b: [7,\n   x]\n\"c\": ~\n").unwrap();
        let list = root.find("a.b").unwrap();
        assert_eq!(list.place, Place::At { line: 2, column: 6 });
        let Value::List(items) = &list.value else { panic!("{list:?}") };
        assert_eq!(items[1].place, Place::At { line: 3, column: 4 });
        let Value::Map(entries) = &root.value else { panic!("{root:?}") };
        assert_eq!(
            (entries[1].key.as_str(), &entries[1].place),
            ("c", &Place::At { line: 4, column: 1 })
        );
        assert!(matches!(root.find("c").unwrap().value, Value::Null));
    }

    #[test]
    fn keeps_the_spelling_of_what_only_looks_like_a_number() {
        let root = parse("a: 007\nb: yes\nc: 1_000\n07: 1\n").unwrap();
        for (key, text) in [("a", "007"), ("b", "yes"), ("c", "1_000")] {
            assert!(matches!(&root.find(key).unwrap().value, Value::Text(t) if t == text), "{key}");
        }
        assert!(root.find("07").is_some());
    }

    #[test]
    fn an_empty_file_is_a_null() {
        for text in ["", "# nothing\n", "---\n"] {
            assert!(matches!(parse(text).unwrap().value, Value::Null), "{text:?}");
        }
    }

    #[test]
    fn says_where_the_yaml_breaks() {
        let problem = parse("a: 1\nb: [1\nc: 2\n").unwrap_err();
        assert!(matches!(problem.place, Place::At { line: 2 | 3, .. }), "{problem:?}");
        assert!(!problem.reason.contains('\n'), "{problem:?}");
    }
}
