//! `mechanism = "AWS_MSK_IAM"`: an identity of AWS, by which tokens are signed.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

use super::credential::{Credential, Peer, Withheld};
use super::reader::{Item, Table};
use super::report::Files;
use super::sasl::Peers;
use super::secret::is_reference;
use super::words::words;

/// The most bytes of a region, of an access key id and of the name of a profile: they have some 20.
const NAME_BYTES_MAX: usize = 128;

/// An identity of AWS (IAM).
#[derive(Clone, Debug)]
pub struct AwsIdentity {
    /// Where the cluster is, for example `eu-central-1`.
    pub region: Arc<str>,
    /// Where its keys are.
    pub source: AwsSource,
}

/// Where the keys of an identity are.
#[derive(Clone, Debug)]
pub enum AwsSource {
    /// In the configuration.
    Keys(Box<AwsKeys>),
    /// Under this name in the shared credentials file of AWS.
    Profile(Arc<str>),
    /// Where AWS's own programs look: the environment, a web identity, the shared credentials file,
    /// the container, the machine.
    Surroundings,
}

/// Keys in the configuration.
#[derive(Clone, Debug)]
pub struct AwsKeys {
    access_key_id: Credential,
    secret_access_key: Credential,
    session_token: Option<Credential>,
}

/// An access key id, its secret, and the token of keys that end.
pub type AwsParts = (SecretString, SecretString, Option<SecretString>);

impl AwsIdentity {
    /// The keys of the configuration as they are now, for a broker that gets a token signed by
    /// them; empty where it has none. [`AwsIdentity::split`] takes them apart.
    ///
    /// # Errors
    /// The broker may not have such a token, or a file cannot be read.
    pub fn read_for(&self, peer: Peer<'_>) -> Result<SecretString, Withheld> {
        let AwsSource::Keys(keys) = &self.source else { return Ok(SecretString::from("")) };
        let parts = [Some(&keys.access_key_id), Some(&keys.secret_access_key), keys.session_token.as_ref()];
        let read: Result<Vec<_>, _> = parts.into_iter().flatten().map(|key| key.read_for(peer)).collect();
        let read = read?;
        if read.iter().any(|part| part.expose_secret().contains('\n')) {
            return Err(Withheld::Unreadable("a key of AWS has one line".to_owned()));
        }
        Ok(read.iter().map(|part| part.expose_secret()).collect::<Vec<_>>().join("\n").into())
    }

    /// The parts of what [`AwsIdentity::read_for`] reads; `None`: it has none.
    pub fn split(written: &SecretString) -> Option<AwsParts> {
        let mut parts = written.expose_secret().split('\n').map(SecretString::from);
        Some((parts.next()?, parts.next()?, parts.next()))
    }

    /// `None` if something is wrong.
    pub(super) fn read(table: &mut Table<'_>, peers: &Peers<'_>) -> Option<Self> {
        let region = table.required("region", "write region = \"eu-central-1\", or another one");
        let profile = table.item("profile");
        let [id, secret, token] = ["access_key_id", "secret_access_key", "session_token"].map(|key| table.item(key));
        let place = table.place.clone();
        let report = table.report;
        let region = region.and_then(|item| read_region(&item));
        let source = match (&id, &secret) {
            (Some(id), Some(secret)) => {
                if let Some(profile) = &profile {
                    profile.report.error_with_help(&profile.place, "the keys are written here", "remove it, or them");
                }
                let of = |item: &Item<'_>| Credential::parse(item, peers.base_dir, peers.recipients);
                let (id, secret, token) = (read_id(id, peers), of(secret), token.as_ref().map(of));
                let token = token.map_or(Some(None), |token| token.map(Some));
                id.zip(secret).zip(token).map(|((access_key_id, secret_access_key), session_token)| {
                    AwsSource::Keys(Box::new(AwsKeys { access_key_id, secret_access_key, session_token }))
                })
            }
            (None, None) if matches!(report.files(), Files::Within(_)) => {
                // Whoever may define links would act as the daemon.
                let help = "write access_key_id and secret_access_key = \"${file:NAME}\"";
                report.error_with_help(&place, "a definition uses no identity of this daemon", help);
                None
            }
            (None, None) => {
                if let Some(token) = &token {
                    let help = "write access_key_id and secret_access_key beside it";
                    token.report.error_with_help(&token.place, "this token belongs to keys that are not here", help);
                }
                match profile {
                    None => Some(AwsSource::Surroundings),
                    Some(item) => name(&item, "a profile").map(|name| AwsSource::Profile(name.into())),
                }
            }
            (Some(one), None) | (None, Some(one)) => {
                let message = "the keys are both \"access_key_id\" and \"secret_access_key\"";
                one.report.error_with_help(&one.place, message, "write the other one too, or neither");
                None
            }
        };
        Some(Self { region: region?, source: source? })
    }
}

/// It becomes a part of a host's name.
fn read_region(item: &Item<'_>) -> Option<Arc<str>> {
    let text = item.text()?;
    let valid = (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    item.parsed(if valid { Ok(text.into()) } else { Err(format!("{text:?} is no region, like \"eu-central-1\"")) })
}

/// It is no secret, and stands in a file beside one where both are replaced together.
fn read_id(item: &Item<'_>, peers: &Peers<'_>) -> Option<Credential> {
    if is_reference(item.text()?) {
        return Credential::parse(item, peers.base_dir, peers.recipients);
    }
    name(item, "an access key id").map(Credential::from)
}

fn name<'a>(item: &Item<'a>, what: &str) -> Option<&'a str> {
    let text = item.text()?;
    let valid = !text.is_empty() && words(text, NAME_BYTES_MAX).is_ok();
    item.parsed(if valid { Ok(text) } else { Err(format!("{what} has 1 to {NAME_BYTES_MAX} printable characters")) })
}
