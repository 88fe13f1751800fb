//! One setting as text: reading it from a YAML value or a variable, and writing it back.

use std::net::IpAddr;
use std::path::PathBuf;

use super::error::Place;
use super::http_url::HttpUrl;
use super::limits::{self, Limit};
use super::nats_url::NatsUrl;
use super::network::Network;
use super::node::{Node, Value};
use super::types::{Choice, ReplicaId, Secret, Shards};

/// A setting in place, by the way it is written.
pub(super) enum Field<'a> {
    Flag(&'a mut bool),
    Integer(&'a mut dyn Integer, Limit),
    /// Null is "as configured elsewhere".
    Qos(&'a mut Option<u8>),
    Shards(&'a mut Shards),
    Word(&'a mut dyn Word),
    /// Null is "as configured elsewhere".
    OptionalWord(&'a mut dyn OptionalWord),
    /// A NATS subject token.
    Name(&'a mut String),
    /// A NATS subject token; null is a random one.
    Replica(&'a mut ReplicaId),
    Tenant(&'a mut String),
    /// Null is "as configured elsewhere".
    OptionalTenant(&'a mut Option<String>),
    Text(&'a mut Option<String>),
    Secret(&'a mut Option<Secret>),
    File(&'a mut Option<PathBuf>),
    Directory(&'a mut PathBuf),
    Address(&'a mut IpAddr),
    Addresses(&'a mut Vec<IpAddr>),
    /// Null is "as configured elsewhere".
    OptionalAddresses(&'a mut Option<Vec<IpAddr>>),
    Files(&'a mut Vec<PathBuf>),
    /// The path of a URL.
    UrlPath(&'a mut String),
    Networks(&'a mut Vec<Network>),
    /// Origins of pages (RFC 6454).
    Origins(&'a mut Vec<String>),
    Urls(&'a mut Vec<NatsUrl>),
    HttpUrl(&'a mut Option<HttpUrl>),
    /// Null is "all".
    Names(&'a mut Option<Vec<String>>),
    /// A map whose keys the operator names, and has named none.
    EmptyMap,
}

/// A number of any width.
pub(super) trait Integer {
    fn get(&self) -> u64;
    /// Takes a value that is within the limits of the setting, which fit the type.
    fn set(&mut self, value: u64);
}

macro_rules! integer {
    ($($t:ty),*) => {$(
        impl Integer for $t {
            fn get(&self) -> u64 {
                *self as u64
            }
            fn set(&mut self, value: u64) {
                *self = value as $t;
            }
        }
    )*};
}
integer!(u8, u16, u32, usize);

/// A [`Choice`] of which the type is forgotten.
pub(super) trait Word {
    fn get(&self) -> &'static str;
    fn set(&mut self, word: &str) -> Result<(), String>;
    fn all(&self) -> Vec<&'static str>;
}

impl<T: Choice> Word for T {
    fn get(&self) -> &'static str {
        self.word()
    }

    fn set(&mut self, word: &str) -> Result<(), String> {
        *self = choose(word).ok_or_else(|| none_of(word, &self.all()))?;
        Ok(())
    }

    fn all(&self) -> Vec<&'static str> {
        words::<T>()
    }
}

/// A [`Choice`] that may be left open.
pub(super) trait OptionalWord {
    fn get(&self) -> Option<&'static str>;
    fn set(&mut self, word: Option<&str>) -> Result<(), String>;
    fn all(&self) -> Vec<&'static str>;
}

impl<T: Choice> OptionalWord for Option<T> {
    fn get(&self) -> Option<&'static str> {
        self.map(T::word)
    }

    fn set(&mut self, word: Option<&str>) -> Result<(), String> {
        let choose = |word| choose(word).ok_or_else(|| none_of(word, &self.all()));
        *self = word.map(choose).transpose()?;
        Ok(())
    }

    fn all(&self) -> Vec<&'static str> {
        words::<T>()
    }
}

fn words<T: Choice>() -> Vec<&'static str> {
    T::WORDS.iter().map(|(word, _)| *word).collect()
}

fn choose<T: Choice>(word: &str) -> Option<T> {
    T::WORDS.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
}

fn none_of(word: &str, all: &[&str]) -> String {
    format!("{word:?} is none of {}", all.join(", "))
}

impl Field<'_> {
    /// Takes the value of a YAML file, or says why not.
    pub fn read(&mut self, value: &Value) -> Result<(), String> {
        match self {
            Self::Flag(flag) => **flag = read_flag(value)?,
            Self::Integer(number, limit) => number.set(read_integer(value, *limit)?),
            Self::Qos(qos) => {
                **qos = match value {
                    Value::Null => None,
                    _ => Some(read_integer(value, limits::QOS)? as u8),
                }
            }
            Self::Shards(shards) => {
                **shards = match value {
                    Value::Text(word) if word == "auto" => Shards::Auto,
                    _ => Shards::Count(
                        read_integer(value, limits::SHARDS)
                            .map_err(|reason| format!("{reason}, or auto"))?
                            as u16,
                    ),
                }
            }
            // The word `null` needs no quotes.
            Self::Word(word) if matches!(value, Value::Null) => word.set("null")?,
            Self::Word(word) => word.set(read_text(value)?)?,
            Self::OptionalWord(word) => word.set(read_optional_text(value)?)?,
            Self::Name(name) => **name = subject_token(read_text(value)?)?,
            Self::Replica(id) => {
                **id = match value {
                    Value::Null => ReplicaId::generate(),
                    _ => ReplicaId::given(subject_token(read_text(value)?)?),
                }
            }
            Self::Tenant(name) => **name = tenant_name(read_text(value)?)?,
            Self::OptionalTenant(name) => {
                **name = read_optional_text(value)?.map(tenant_name).transpose()?;
            }
            Self::Text(text) => **text = read_optional_text(value)?.map(str::to_owned),
            Self::Secret(secret) => **secret = read_optional_text(value)?.map(Secret::new),
            Self::File(file) => **file = read_optional_text(value)?.map(PathBuf::from),
            Self::Directory(directory) => **directory = PathBuf::from(read_text(value)?),
            Self::Address(address) => **address = parse_address(read_text(value)?)?,
            Self::Addresses(addresses) => **addresses = read_some(value, parse_address)?,
            Self::OptionalAddresses(addresses) => {
                **addresses = match value {
                    Value::Null => None,
                    _ => Some(read_some(value, parse_address)?),
                }
            }
            Self::Files(files) => **files = read_list(value, |file| Ok(PathBuf::from(file)))?,
            Self::UrlPath(path) => **path = url_path(read_text(value)?)?,
            Self::Networks(networks) => **networks = read_list(value, Network::parse)?,
            Self::Origins(origins) => **origins = read_list(value, origin)?,
            Self::Urls(urls) => **urls = read_some(value, NatsUrl::parse)?,
            Self::HttpUrl(url) => {
                **url = read_optional_text(value)?.map(HttpUrl::parse).transpose()?;
            }
            Self::Names(names) => {
                **names = match value {
                    Value::Null => None,
                    _ => Some(read_list(value, |name| Ok(name.to_owned()))?),
                }
            }
            // Whoever made the entries has looked at it.
            Self::EmptyMap => {}
        }
        Ok(())
    }

    /// Takes the value of an environment variable, or says why not; lists are split at commas.
    pub fn read_variable(&mut self, text: &str) -> Result<(), String> {
        let value = match self {
            Self::Addresses(_)
            | Self::OptionalAddresses(_)
            | Self::Files(_)
            | Self::Origins(_)
            | Self::Networks(_)
            | Self::Urls(_)
            | Self::Names(_) => Value::List(
                text.split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(|item| Node { place: Place::File, value: Value::Text(item.to_owned()) })
                    .collect(),
            ),
            _ => Value::Text(text.to_owned()),
        };
        self.read(&value)
    }

    /// The value in YAML, on one line; a secret is masked.
    pub fn show(&self) -> String {
        match self {
            Self::Flag(flag) => flag.to_string(),
            Self::Integer(number, _) => number.get().to_string(),
            Self::Qos(qos) => qos.map_or("null".into(), |qos| qos.to_string()),
            Self::Shards(Shards::Auto) => "auto".into(),
            Self::Shards(Shards::Count(count)) => count.to_string(),
            Self::Word(word) => word.get().into(),
            Self::OptionalWord(word) => word.get().unwrap_or("null").into(),
            Self::Name(name) | Self::Tenant(name) => quote(name),
            // A generated id is not repeated: fed back, it would be shared by all replicas.
            Self::Replica(id) if id.is_generated() => "null".into(),
            Self::Replica(id) => quote(id.as_str()),
            Self::Text(text) | Self::OptionalTenant(text) => {
                text.as_deref().map_or("null".into(), quote)
            }
            Self::Secret(secret) => show_optional(secret),
            Self::File(file) => {
                file.as_ref().map_or("null".into(), |f| quote(&f.to_string_lossy()))
            }
            Self::Directory(directory) => quote(&directory.to_string_lossy()),
            Self::Address(address) => quote(&address.to_string()),
            Self::Addresses(addresses) => show_list(addresses),
            Self::OptionalAddresses(addresses) => {
                addresses.as_deref().map_or("null".into(), show_list)
            }
            Self::Files(files) => {
                let shown: Vec<_> = files.iter().map(|file| file.to_string_lossy()).collect();
                show_list(&shown)
            }
            Self::UrlPath(path) => quote(path),
            Self::Origins(origins) => show_list(origins),
            Self::Networks(networks) => show_list(networks),
            Self::Urls(urls) => show_list(urls),
            Self::HttpUrl(url) => url.as_ref().map_or("null".into(), |url| quote(&url.to_string())),
            Self::Names(names) => names.as_deref().map_or("null".into(), show_list),
            Self::EmptyMap => "{}".into(),
        }
    }
}

/// A text in YAML's double quotes, of which JSON's are a subset.
pub(super) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn show_optional(value: &Option<Secret>) -> String {
    value.as_ref().map_or("null".into(), |value| quote(&value.to_string()))
}

fn show_list<T: ToString>(list: &[T]) -> String {
    let quoted: Vec<String> = list.iter().map(|item| quote(&item.to_string())).collect();
    format!("[{}]", quoted.join(", "))
}

fn expected(what: &str, value: &Value) -> String {
    format!("expected {what}, found {}", value.kind())
}

fn read_flag(value: &Value) -> Result<bool, String> {
    match value {
        Value::Flag(flag) => Ok(*flag),
        Value::Text(text) => match text.as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(format!("{text:?} is neither true nor false")),
        },
        _ => Err(expected("true or false", value)),
    }
}

fn read_integer(value: &Value, limit: Limit) -> Result<u64, String> {
    let number = match value {
        Value::Integer(number) => *number,
        // From a variable, or quoted in the file.
        Value::Text(text) => text.parse().map_err(|_| format!("{text:?} is not a whole number"))?,
        _ => return Err(expected("a whole number", value)),
    };
    limit.check(number)
}

fn read_text(value: &Value) -> Result<&str, String> {
    match value {
        Value::Text(text) if text.is_empty() => Err("must not be empty".into()),
        Value::Text(text) => Ok(text),
        Value::Flag(_) | Value::Integer(_) | Value::Fraction => {
            Err(format!("{}; put it in quotes", expected("a text", value)))
        }
        _ => Err(expected("a text", value)),
    }
}

fn read_optional_text(value: &Value) -> Result<Option<&str>, String> {
    match value {
        Value::Null => Ok(None),
        _ => read_text(value).map(Some),
    }
}

fn read_list<T>(
    value: &Value,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let Value::List(items) = value else {
        return Err(expected("a list", value));
    };
    let numbered = items.iter().enumerate();
    numbered
        .map(|(i, item)| {
            read_text(&item.value)
                .and_then(&parse)
                .map_err(|reason| format!("item {}: {reason}", i + 1))
        })
        .collect()
}

/// A list of at least one text.
fn read_some<T>(
    value: &Value,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let list = read_list(value, parse)?;
    if list.is_empty() { Err("needs at least one item".into()) } else { Ok(list) }
}

fn parse_address(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| format!("{text:?} is not an IP address"))
}

/// Refuses what is no path of a URL, or has a query.
fn url_path(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('/')
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte));
    if is_path { Ok(text.to_owned()) } else { Err(format!("{text:?} is no path like /ws")) }
}

/// Refuses what no browser says of where a page is from: `<scheme>://<host>[:<port>]`.
fn origin(text: &str) -> Result<String, String> {
    let host = text.split_once("://").map_or("", |(_, host)| host);
    let is_origin = !host.is_empty()
        && !host.contains('/')
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*');
    if is_origin {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no origin like https://panel.example.org"))
    }
}

/// Refuses what cannot be one token of a NATS subject.
pub(super) fn subject_token(text: &str) -> Result<String, String> {
    check_name(
        text,
        "a NATS subject token has no white space, control character, `.`, `*` or `>`",
        |c| !c.is_whitespace() && !c.is_control() && !".*>".contains(c),
    )
}

/// Refuses what cannot be both a NATS subject token and a level of a 1/KP topic.
pub(super) fn extension_name(text: &str) -> Result<String, String> {
    let name = subject_token(text)?;
    check_name(&name, "a topic level has no `/`, `+` or `#`", |c| !"/+#".contains(c))
}

/// Refuses what is no name of an application or application version.
pub(super) fn application_name(text: &str) -> Result<String, String> {
    check_name(text, "only a-z, 0-9, `-` and `_` are allowed", |c| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c)
    })
}

/// Refuses what is no name of a tenant: one that could stand behind the last `@` of a user name,
/// and in a path of the management interface.
pub(super) fn tenant_name(text: &str) -> Result<String, String> {
    check_name(
        text,
        "a tenant name has no white space, control character, `.`, `/`, `@`, `+` or `#`",
        |c| !c.is_whitespace() && !c.is_control() && !"./@+#".contains(c),
    )
}

fn check_name(text: &str, rule: &str, allowed: impl Fn(char) -> bool) -> Result<String, String> {
    if text.is_empty() {
        return Err("must not be empty".into());
    }
    if text.len() > limits::NAME_BYTES_MAX {
        return Err(format!("too long: at most {} bytes", limits::NAME_BYTES_MAX));
    }
    match text.chars().find(|&c| !allowed(c)) {
        Some(bad) => Err(format!("{bad:?} in {text:?}: {rule}")),
        None => Ok(text.to_owned()),
    }
}
