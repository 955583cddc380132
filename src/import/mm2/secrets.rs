//! Where a secret comes from: never its text.

use std::collections::BTreeMap;

use super::keys::{Keys, Scope, list};
use super::notes::Notes;
use crate::import::What;
use crate::import::properties::Property;

/// What a provider of values does, by its name in the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Provider {
    /// `${name:VARIABLE}`
    Environment,
    /// `${name:DIRECTORY:FILE}`: all that is in a file.
    Directory,
    /// `${name:FILE:KEY}` of a properties file, or something that we do not know.
    Other,
}

/// The providers of values that a file declares.
pub(super) struct Secrets {
    providers: BTreeMap<String, Provider>,
}

impl Secrets {
    pub(super) fn read(keys: &Keys) -> Self {
        let declared = keys.whole("config.providers").map_or("", |names| &*names.value);
        let provider = |name: &&str| {
            let class = keys.whole(&format!("config.providers.{name}.class")).map_or("", |class| &*class.value);
            let provider = match class.rsplit('.').next() {
                Some("EnvVarConfigProvider") => Provider::Environment,
                Some("DirectoryConfigProvider") => Provider::Directory,
                _ => Provider::Other,
            };
            ((*name).to_owned(), provider)
        };
        Self { providers: list(declared).iter().map(provider).collect() }
    }

    /// What stands in our configuration for the secret in `value`, a part of a property. `file` is where its text is to be put, if it has to be put anywhere.
    pub(super) fn place(&self, scope: &Scope, property: &Property, value: &str, file: &str, notes: &Notes) -> String {
        if let Some((provider, rest)) = reference(value) {
            match (self.providers.get(provider).copied(), rest.rsplit_once(':')) {
                (Some(Provider::Environment), _) => return format!("${{env:{}}}", rest.trim_start_matches(':')),
                (Some(Provider::Directory), Some((directory, name))) => {
                    return format!("${{file:{}/{name}}}", directory.trim_end_matches('/'));
                }
                _ => {
                    let why = format!("the secret comes from {value}, which only Kafka can read");
                    let remedy = format!("put it into the file {file}, and nothing else");
                    notes.about(scope, property, What::ToDo, &why, &remedy);
                    return format!("${{file:{file}}}");
                }
            }
        }
        let remedy = format!(
            "put it into the file {file}, and nothing else, for nobody but the daemon's user to read (mode 0600)"
        );
        notes.about(scope, property, What::ToDo, "a secret stands in the file, and not in a configuration", &remedy);
        format!("${{file:{file}}}")
    }
}

/// Whether a value comes from elsewhere, as a whole: the provider, and what it is told.
fn reference(value: &str) -> Option<(&str, &str)> {
    let inner = value.strip_prefix("${")?.strip_suffix('}')?;
    inner.split_once(':').filter(|_| !inner.contains('}'))
}
