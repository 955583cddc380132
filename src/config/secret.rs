//! Passwords and tokens: where they come from, and that they are never shown.

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::reader::Item;
use super::report::{Files, Within};
use crate::files::given;

/// The most bytes of a file with a secret: tokens have a few KiB, and a data file that was named by mistake is not read into memory.
pub(super) const FILE_BYTES_MAX: u64 = 64 << 10;

/// A password or a token that stays in this process. One that goes to a peer is a
/// [`Credential`](super::Credential). Its text is in no log, no error and no `Debug`.
#[derive(Clone, Debug)]
pub struct Secret(Origin);

#[derive(Clone, Debug)]
enum Origin {
    /// Written in the file, or taken from the environment when the file was read.
    Known(SecretString),
    /// Read anew each time.
    File {
        /// As it is written: a link in it may lead elsewhere tomorrow.
        path: Allowed,
        /// The directory that it must lead into, for a definition.
        within: Option<PathBuf>,
    },
}

impl Secret {
    /// The text as it is now: what comes from a file is read anew, so that it can be replaced while the daemon runs.
    ///
    /// # Errors
    /// Its file cannot be read, is empty, or is no text. The message has the file's name, and nothing of what is in it.
    pub fn read(&self) -> Result<SecretString, String> {
        match &self.0 {
            Origin::Known(text) => Ok(text.clone()),
            Origin::File { path, within: None } => read_file(path.path()),
            Origin::File { path, within: Some(dir) } => match resolved(path.path(), dir) {
                Some(file) => read_file(&file),
                None => {
                    Err(format!("{}: there is no such file in the secrets_dir of the daemon", path.path().display()))
                }
            },
        }
    }

    /// `${env:NAME}` or `${file:PATH}`, and nothing else.
    pub(super) fn parse_reference(item: &Item<'_>, base_dir: &Path) -> Option<Self> {
        if is_reference(item.text()?) {
            return Self::parse(item, base_dir);
        }
        item.parsed(Err("a token does not stand here: write \"${file:PATH}\" or \"${env:NAME}\"".to_owned()))
    }

    /// Its file, if it is in one.
    pub(super) fn file(&self) -> Option<&Allowed> {
        match &self.0 {
            Origin::Known(_) => None,
            Origin::File { path, .. } => Some(path),
        }
    }

    #[cfg(test)]
    pub(super) fn in_file(path: PathBuf) -> Self {
        Self(Origin::File { path: Allowed(path), within: None })
    }

    /// `${env:NAME}`, `${file:PATH}`, or the text itself, which is a warning: a configuration file is shown to many.
    pub(super) fn parse(item: &Item<'_>, base_dir: &Path) -> Option<Self> {
        let text = item.text()?;
        match reference(text) {
            Some(Reference::Environment(_) | Reference::File(_)) if matches!(item.report.files(), Files::Rehearsed) => {
                Some(Self(Origin::File { path: Allowed(PathBuf::new()), within: None }))
            }
            Some(Reference::Environment(_)) if is_restricted(item) => item.parsed(Err(REFER.to_owned())),
            Some(Reference::Environment(name)) => item.parsed(from_environment(name)),
            Some(Reference::File(path)) => {
                let path = allowed_file(item, base_dir, path)?;
                let within = match item.report.files() {
                    Files::Within(Within { dir, .. }) => dir.map(Path::to_owned),
                    _ => None,
                };
                item.parsed(read_file(path.path())).map(|_| Self(Origin::File { path, within }))
            }
            Some(Reference::Unknown) => item.parsed(Err("write ${env:NAME} or ${file:PATH}".to_owned())),
            None if text.is_empty() => item.parsed(Err("it is empty".to_owned())),
            None if is_restricted(item) => item.parsed(Err(REFER.to_owned())),
            None => {
                let help = "write \"${env:NAME}\" or \"${file:PATH}\"";
                item.report.warning(&item.place, "a secret stands here for everybody to read", help);
                Some(Self(Origin::Known(text.into())))
            }
        }
    }
}

/// What is said of secrets that a definition must not have: it is shown to whoever asks for the link.
const REFER: &str = "a definition holds no secret: write ${file:NAME}, a file in the secrets_dir of the daemon";

fn is_restricted(item: &Item<'_>) -> bool {
    matches!(item.report.files(), Files::Within(_))
}

/// A file that may be used by what is being read. Only the check makes one, so nothing beside a file is read before that.
#[derive(Clone, Debug)]
pub(super) struct Allowed(PathBuf);

impl Allowed {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn into_path(self) -> PathBuf {
        self.0
    }
}

/// The file, if it may be used by what is being read. Nothing is told of one that may not: not even whether it is there.
pub(super) fn allowed_file(item: &Item<'_>, base_dir: &Path, path: &str) -> Option<Allowed> {
    let file = base_dir.join(path);
    let Files::Within(Within { dir: allowed, .. }) = item.report.files() else { return Some(Allowed(file)) };
    let Some(dir) = allowed else {
        let help = "set secrets_dir in the daemon's configuration, or define the cluster there";
        item.report.error_with_help(&item.place, "a definition may use no files of this daemon", help);
        return None;
    };
    if resolved(&file, dir).is_none() {
        item.report.error(&item.place, format!("there is no such file in the secrets_dir of the daemon: {path:?}"));
        return None;
    }
    Some(Allowed(file))
}

/// Where a file is, if that is in a directory whatever links lead there.
fn resolved(file: &Path, dir: &Path) -> Option<PathBuf> {
    let inside = file.canonicalize().ok().zip(dir.canonicalize().ok()).filter(|(file, dir)| file.starts_with(dir));
    inside.map(|(file, _)| file)
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(Origin::Known(text.into()))
    }
}

/// Where a text says that its value is.
enum Reference<'a> {
    Environment(&'a str),
    File(&'a str),
    Unknown,
}

fn reference(text: &str) -> Option<Reference<'_>> {
    let inner = text.strip_prefix("${")?;
    let place = inner.strip_suffix('}').and_then(|inner| inner.split_once(':'));
    Some(match place {
        Some((_, "")) | None => Reference::Unknown,
        Some(("env", name)) => Reference::Environment(name),
        Some(("file", path)) if !path.contains('\0') => Reference::File(path),
        Some(_) => Reference::Unknown,
    })
}

/// Whether a text stands for a value from elsewhere. Only secrets may.
pub(super) fn is_reference(text: &str) -> bool {
    reference(text).is_some()
}

fn from_environment(name: &str) -> Result<Secret, String> {
    if name.contains(['=', '\0']) {
        return Err("this is no name of a variable".to_owned());
    }
    match std::env::var(name) {
        Ok(text) if text.is_empty() => Err(format!("the variable {name} is empty")),
        Ok(text) => Ok(Secret(Origin::Known(text.into()))),
        Err(std::env::VarError::NotPresent) => Err(format!("there is no variable {name} in the environment")),
        Err(std::env::VarError::NotUnicode(_)) => Err(format!("the variable {name} is not UTF-8")),
    }
}

/// The text of a file, without the line end that editors put behind it.
fn read_file(path: &Path) -> Result<SecretString, String> {
    let wrong = |what: &dyn fmt::Display| format!("{}: {what}", path.display());
    let bytes = given::read(path, FILE_BYTES_MAX).map_err(|error| wrong(&error))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong(&"it is not UTF-8"))?;
    let text = text.strip_suffix('\n').map_or(&*text, |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() { Err(wrong(&"it is empty")) } else { Ok(text.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How Kubernetes replaces what is mounted: what the file's link leads through leads elsewhere.
    #[test]
    fn a_file_is_found_again_each_time_and_only_inside_its_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        for (version, text) in [("secrets/..v1", "old"), ("secrets/..v2", "new"), ("outside", "none")] {
            std::fs::create_dir_all(at(version)).expect("a directory");
            std::fs::write(at(version).join("password"), text).expect("a file");
        }
        let link = |to: &str| {
            let _absent_the_first_time = std::fs::remove_file(at("secrets/..data"));
            std::os::unix::fs::symlink(to, at("secrets/..data")).expect("a link");
        };
        std::os::unix::fs::symlink("..data/password", at("secrets/password")).expect("a link");
        let secret = Secret(Origin::File { path: Allowed(at("secrets/password")), within: Some(at("secrets")) });
        let read = || secret.read().map(|text| secrecy::ExposeSecret::expose_secret(&text).to_owned());
        link("..v1");
        assert_eq!(read().as_deref(), Ok("old"));
        link("..v2");
        std::fs::remove_dir_all(at("secrets/..v1")).expect("it was there");
        assert_eq!(read().as_deref(), Ok("new"));
        link("../outside");
        assert!(read().expect_err("it leads out").contains("no such file in the secrets_dir"));
    }
}
