//! Who may be addressed: application versions and the extension instances they may use, compiled
//! from the configuration into tables that a topic is looked up in.

use std::collections::HashMap;
use std::fmt;

use crate::codec::kp1::{self, Malformed, RequestId, TopicError};
use crate::codec::mqtt::QoS;
use crate::telemetry::DropReason;

/// Names an extension instance within a [`Catalogue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExtensionId(pub u16);

/// An extension instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Its name: a level of the 1/KP topic and a token of the NATS subject.
    pub name: Box<str>,
    /// Whether its topics carry an endpoint token.
    pub endpoint_aware: bool,
    /// QoS of a message whose request is unknown; `None`: the policy's.
    pub push_qos: Option<QoS>,
}

/// Names an application within a [`Catalogue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AppId(pub u16);

/// An application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Its name, as providers of credentials know it.
    pub name: Box<str>,
    /// The tenant it belongs to.
    pub tenant: Box<str>,
}

/// An application version.
#[derive(Debug)]
struct AppVersion {
    app: AppId,
    allowed: Vec<ExtensionId>,
}

/// The tables. Immutable once built; every shard reads the same one.
#[derive(Debug, Default)]
pub struct Catalogue {
    extensions: Vec<Extension>,
    extension_ids: HashMap<Box<str>, ExtensionId>,
    apps: Vec<App>,
    versions: HashMap<Box<str>, AppVersion>,
}

/// Where a topic leads.
#[derive(Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Application.
    pub app: AppId,
    /// Application version.
    pub app_version: &'a str,
    /// Extension instance.
    pub extension: ExtensionId,
    /// Endpoint token; `None` for an endpoint-unaware instance.
    pub token: Option<&'a str>,
    /// As 4/ESP wants it.
    pub resource_path: &'a str,
    /// `None`: the client wants no answer.
    pub request_id: Option<u32>,
}

/// Why a topic leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Another protocol's topic.
    NotKp1,
    /// A `kp1` topic of the wrong shape.
    Malformed(Malformed),
    /// No such application version.
    UnknownAppVersion,
    /// No such extension instance.
    UnknownExtension,
    /// The application version may not use the extension instance.
    ExtensionNotAllowed,
    /// 4/ESP cannot carry the request id.
    RequestIdTooLarge,
    /// The connection speaks for as many endpoints as it may.
    TooManyEndpoints,
}

impl Refusal {
    /// HTTP status for the error answer, where one is due.
    pub fn status_code(self) -> i32 {
        match self {
            Self::NotKp1 | Self::Malformed(_) | Self::RequestIdTooLarge => 400,
            Self::UnknownAppVersion | Self::UnknownExtension => 404,
            Self::ExtensionNotAllowed => 403,
            Self::TooManyEndpoints => 429,
        }
    }

    /// Under what the drop is counted.
    pub fn drop_reason(self) -> DropReason {
        match self {
            Self::NotKp1 => DropReason::NotKp1,
            Self::Malformed(_) => DropReason::MalformedTopic,
            Self::UnknownAppVersion => DropReason::UnknownAppVersion,
            Self::UnknownExtension => DropReason::UnknownExtension,
            Self::ExtensionNotAllowed => DropReason::ExtensionNotAllowed,
            Self::RequestIdTooLarge => DropReason::RequestIdTooLarge,
            Self::TooManyEndpoints => DropReason::TooManyEndpoints,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotKp1 => f.write_str("the topic does not start with kp1/"),
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::UnknownAppVersion => f.write_str("unknown application version"),
            Self::UnknownExtension => f.write_str("unknown extension instance"),
            Self::ExtensionNotAllowed => {
                f.write_str("the application version may not use this extension instance")
            }
            Self::RequestIdTooLarge => f.write_str("the request id is larger than 2147483647"),
            Self::TooManyEndpoints => f.write_str("the connection speaks for too many endpoints"),
        }
    }
}

impl Catalogue {
    /// Adds an extension instance.
    pub fn add_extension(&mut self, extension: Extension) -> ExtensionId {
        // Configuration bounds the number of instances far below 65,536.
        let id = ExtensionId(self.extensions.len() as u16);
        self.extension_ids.insert(extension.name.clone(), id);
        self.extensions.push(extension);
        id
    }

    /// Adds an application.
    pub fn add_app(&mut self, app: App) -> AppId {
        // Configuration bounds the number of applications likewise.
        let id = AppId(self.apps.len() as u16);
        self.apps.push(app);
        id
    }

    /// Adds a version of an application; `allowed` of `None` means every instance added so far.
    /// Names of unknown instances are left out: configuration has refused them.
    pub fn add_version(&mut self, app: AppId, name: &str, allowed: Option<&[String]>) {
        let allowed = match allowed {
            None => (0..self.extensions.len() as u16).map(ExtensionId).collect(),
            Some(names) => names
                .iter()
                .filter_map(|name| self.extension_ids.get(name.as_str()).copied())
                .collect(),
        };
        self.versions.insert(name.into(), AppVersion { app, allowed });
    }

    /// Whether there is an application version of that name.
    pub fn has_version(&self, name: &str) -> bool {
        self.versions.contains_key(name)
    }

    /// The application that a version of that name is of.
    pub fn app_of_version(&self, name: &str) -> Option<AppId> {
        self.versions.get(name).map(|version| version.app)
    }

    /// The application an id of this catalogue names.
    pub fn app(&self, id: AppId) -> &App {
        &self.apps[usize::from(id.0)]
    }

    /// Every application, in the order of their ids.
    pub fn apps(&self) -> &[App] {
        &self.apps
    }

    /// The id of the application of that name.
    pub fn app_named(&self, name: &str) -> Option<AppId> {
        self.apps.iter().position(|app| *app.name == *name).map(|at| AppId(at as u16))
    }

    /// Every extension instance, in the order of their ids.
    pub fn extensions(&self) -> &[Extension] {
        &self.extensions
    }

    /// The instance an id of this catalogue names.
    pub fn extension(&self, id: ExtensionId) -> &Extension {
        &self.extensions[usize::from(id.0)]
    }

    /// The instance of that name.
    pub fn extension_named(&self, name: &str) -> Option<&Extension> {
        self.extension_ids.get(name).map(|id| self.extension(*id))
    }

    /// The id of the instance of that name.
    pub fn id_of(&self, name: &str) -> Option<ExtensionId> {
        self.extension_ids.get(name).copied()
    }

    /// Follows a topic.
    ///
    /// # Errors
    /// [`Refusal`]: the topic leads nowhere.
    pub fn resolve<'a>(&self, topic: &'a str) -> Result<Target<'a>, Refusal> {
        let parts = kp1::split(topic).map_err(|error| match error {
            TopicError::NotKp1 => Refusal::NotKp1,
            TopicError::Malformed(malformed) => Refusal::Malformed(malformed),
        })?;
        let version = self.versions.get(parts.app_version).ok_or(Refusal::UnknownAppVersion)?;
        let extension =
            *self.extension_ids.get(parts.extension).ok_or(Refusal::UnknownExtension)?;
        if !version.allowed.contains(&extension) {
            return Err(Refusal::ExtensionNotAllowed);
        }
        let request = if self.extension(extension).endpoint_aware {
            parts.endpoint_aware().map_err(Refusal::Malformed)?
        } else {
            parts.endpoint_unaware()
        };
        let request_id = match request.request_id {
            RequestId::None => None,
            RequestId::Some(id) => Some(id),
            RequestId::TooLarge => return Err(Refusal::RequestIdTooLarge),
        };
        Ok(Target {
            app: version.app,
            app_version: parts.app_version,
            extension,
            token: request.token,
            resource_path: request.resource_path,
            request_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue() -> Catalogue {
        let mut catalogue = Catalogue::default();
        for (name, endpoint_aware) in [("dcx", true), ("cmx", true), ("tsx", false)] {
            catalogue.add_extension(Extension {
                name: name.into(),
                endpoint_aware,
                push_qos: None,
            });
        }
        let app = catalogue.add_app(App { name: "kettle".into(), tenant: "acme".into() });
        catalogue.add_version(app, "kettle-v1", Some(&["dcx".to_owned(), "tsx".to_owned()]));
        catalogue.add_version(app, "kettle-v2", None);
        catalogue.add_version(app, "kettle-v3", Some(&[]));
        catalogue
    }

    #[test]
    fn follows_topics_of_both_kinds_of_instance() {
        let catalogue = catalogue();
        assert_eq!(
            catalogue.resolve("kp1/kettle-v1/dcx/token/json/7"),
            Ok(Target {
                app: AppId(0),
                app_version: "kettle-v1",
                extension: ExtensionId(0),
                token: Some("token"),
                resource_path: "/json",
                request_id: Some(7),
            })
        );
        let unaware = catalogue.resolve("kp1/kettle-v1/tsx/now").expect("allowed");
        assert_eq!((unaware.token, unaware.resource_path), (None, "/now"));
    }

    #[test]
    fn refuses_what_is_unknown_or_not_allowed() {
        let catalogue = catalogue();
        for (topic, refusal) in [
            ("other/topic", Refusal::NotKp1),
            ("kp1/kettle-v9/dcx/t/json", Refusal::UnknownAppVersion),
            ("kp1/kettle-v1/zzz/t/json", Refusal::UnknownExtension),
            ("kp1/kettle-v1/cmx/t/json", Refusal::ExtensionNotAllowed),
            ("kp1/kettle-v3/dcx/t/json", Refusal::ExtensionNotAllowed),
            ("kp1/kettle-v1/dcx/t/json/2147483648", Refusal::RequestIdTooLarge),
            ("kp1/kettle-v1/dcx", Refusal::Malformed(Malformed::Token)),
        ] {
            assert_eq!(catalogue.resolve(topic), Err(refusal), "{topic}");
        }
        assert!(catalogue.resolve("kp1/kettle-v2/cmx/t/json").is_ok(), "absent list: all");
    }
}
