//! Who changed what: in the log, and in a file.
//!
//! `audit.jsonl` is a JSON object a line, and `audit.jsonl.1` what was there before it. A line holds neither bodies nor what stands behind a question mark: both may have
//! what others must not read.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

use super::AccessError;
use crate::api::wire::Time;
use crate::config::AuditConfig;
use crate::files::private;

const FILE: &str = "audit.jsonl";

/// How many refusals are written down at once, and how many a second in the long run. Whoever guesses tokens must not wash away what was done before.
const REFUSALS_AT_ONCE: f64 = 60.0;
const REFUSALS_PER_SECOND: f64 = 1.0;

/// The longest text of a request that is written down as it is.
const TEXT_BYTES_MAX: usize = 512;

/// A request that changes something, or that was refused.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Entry {
    pub(super) time: Time,
    /// Who did it; null where nobody has to say who they are, or did not.
    pub(super) name: Option<String>,
    /// What they may do.
    pub(super) role: Option<&'static str>,
    /// What they say that they are called, where they need not prove it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) claimed: Option<String>,
    /// From where.
    pub(super) address: String,
    pub(super) method: String,
    /// Without what stands behind the question mark.
    pub(super) path: String,
    /// The link that it is about.
    pub(super) link: Option<String>,
    /// The HTTP status of the answer.
    pub(super) status: u16,
    /// How many refusals before this one were not written down.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) left_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Where entries go.
pub(super) struct Audit {
    path: PathBuf,
    file: Mutex<Option<AuditFile>>,
    /// Refusals without a name, and those of somebody who is known: the first must not hide the second.
    budgets: [Mutex<Budget>; 2],
}

impl Audit {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join(FILE), file: Mutex::default(), budgets: [(); 2].map(|()| Mutex::default()) }
    }

    /// Write to the file from now on, or not.
    ///
    /// # Errors
    /// It cannot be written: nothing has changed.
    pub(super) fn configure(&self, config: Option<AuditConfig>) -> Result<(), AccessError> {
        let mut file = self.file();
        *file = match (config, file.take()) {
            (Some(config), Some(open)) => Some(AuditFile { config, ..open }),
            (None, _) => None,
            (Some(config), None) => Some(AuditFile::open(&self.path, config).map_err(|error| AccessError {
                code: "audit-file",
                message: format!("{}: {error}", self.path.display()),
                remedy: "let the daemon write it, or remove audit_file",
            })?),
        };
        Ok(())
    }

    /// Whether somebody's refusal is to be written down, and how many were not before it.
    pub(super) fn admit_refusal(&self, is_known: bool, now: Instant) -> Option<u64> {
        let budget = &self.budgets[usize::from(is_known)];
        budget.lock().unwrap_or_else(PoisonError::into_inner).take(now)
    }

    /// Write an entry down. May wait for the disk.
    pub(super) fn write(&self, mut entry: Entry) {
        let texts = [Some(&mut entry.path), entry.claimed.as_mut(), entry.link.as_mut()];
        texts.into_iter().flatten().for_each(shorten);
        let Entry { name, role, claimed, address, method, path, link, status, left_out, .. } = &entry;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (by, claimed, link, role) = (text(name), text(claimed), text(link), role.unwrap_or_default());
        tracing::info!(target: "audit", by, role, claimed, address, method, path, link, status, left_out, "{method} {path}");
        let mut file = self.file();
        let Some(open) = &mut *file else { return };
        if let Err(error) = serde_json::to_vec(&entry).map_err(io::Error::from).and_then(|line| open.append(line)) {
            tracing::error!("{} was not written: {error}", self.path.display());
        }
    }

    fn file(&self) -> MutexGuard<'_, Option<AuditFile>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shorten(text: &mut String) {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push('…');
    }
}

/// How many refusals may be written down.
#[derive(Default)]
struct Budget {
    last: Option<(Instant, f64)>,
    left_out: u64,
}

impl Budget {
    fn take(&mut self, now: Instant) -> Option<u64> {
        let there = self.last.map_or(REFUSALS_AT_ONCE, |(at, left)| {
            let since = now.saturating_duration_since(at).as_secs_f64();
            (left + since * REFUSALS_PER_SECOND).min(REFUSALS_AT_ONCE)
        });
        if there < 1.0 {
            self.last = Some((now, there));
            self.left_out += 1;
            return None;
        }
        self.last = Some((now, there - 1.0));
        Some(std::mem::take(&mut self.left_out))
    }
}

/// Where the next file is until those before it are aside.
fn coming(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.new", path.display()))
}

/// Where the file goes that is the `number`th before the present one.
fn aside(path: &Path, number: u32) -> PathBuf {
    PathBuf::from(format!("{}.{number}", path.display()))
}

struct AuditFile {
    path: PathBuf,
    config: AuditConfig,
    file: File,
    bytes: u64,
    /// What was written last may have no end.
    is_torn: bool,
    /// Whether no new file could be begun: it is said once.
    is_stuck: bool,
}

impl AuditFile {
    fn open(path: &Path, config: AuditConfig) -> io::Result<Self> {
        let mut file = private::append(path)?;
        // Those that an older version put aside may be open to others.
        for aside in (1..config.files_max).map(|number| aside(path, number)).filter(|aside| aside.exists()) {
            private::read(&aside)?;
        }
        let bytes = file.metadata()?.len();
        let mut last = [b'\n'];
        if bytes > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        Ok(Self { path: path.to_owned(), config, file, bytes, is_torn: last != [b'\n'], is_stuck: false })
    }

    fn append(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + line.len() as u64 >= self.config.file_bytes_max {
            let rotated = self.rotate();
            self.note(rotated.err());
        }
        if self.is_torn {
            line.insert(0, b'\n');
        }
        line.push(b'\n');
        // One write a line, so that a crash tears the last one at most.
        self.is_torn = true;
        self.file.write_all(&line)?;
        self.is_torn = false;
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// Say that no new file can be begun, or that one can again. Entries go to the present one meanwhile, however large it becomes: none is lost for this.
    fn note(&mut self, failure: Option<io::Error>) {
        let path = self.path.display();
        match &failure {
            Some(error) if !self.is_stuck => tracing::error!("{path} is not rotated and grows: {error}"),
            None if self.is_stuck => tracing::info!("{path} is rotated again"),
            _ => {}
        }
        self.is_stuck = failure.is_some();
    }

    /// Put the file aside, and the oldest away. The new one is there before any other is moved, and only the one that is written to is moved: however often
    /// this fails, nothing is lost by it.
    fn rotate(&mut self) -> io::Result<()> {
        let coming = coming(&self.path);
        private::create(&coming)?;
        if self.is_present()? {
            self.shift()?;
        }
        fs::rename(&coming, &self.path)?;
        *self = Self { is_stuck: self.is_stuck, ..Self::open(&self.path, self.config)? };
        Ok(())
    }

    /// Whether the file is where it belongs, and not aside already or somebody else's.
    fn is_present(&self) -> io::Result<bool> {
        let own = self.file.metadata()?;
        match fs::symlink_metadata(&self.path) {
            Ok(found) => Ok((found.dev(), found.ino()) == (own.dev(), own.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Move the files one further, up to the first place that is free, or else over the oldest.
    fn shift(&self) -> io::Result<()> {
        let aside = |number: u32| aside(&self.path, number);
        // The present one is one of them.
        let kept = self.config.files_max - 1;
        if kept == 0 {
            return Ok(());
        }
        let free = (1..kept).find(|number| !aside(*number).exists()).unwrap_or(kept);
        for number in (1..free).rev() {
            fs::rename(aside(number), aside(number + 1))?;
        }
        fs::rename(&self.path, aside(1))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;

    use super::*;

    fn entry(status: u16) -> Entry {
        Entry {
            time: Time(0),
            name: Some("ann".to_owned()),
            role: Some("admin"),
            claimed: None,
            address: "127.0.0.1".to_owned(),
            method: "POST".to_owned(),
            path: "/api/v1/reload".to_owned(),
            link: None,
            status,
            left_out: 0,
        }
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = fs::read_to_string(path).expect("a file");
        text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    #[test]
    fn the_newest_lines_are_kept_in_so_many_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let audit = Audit::new(dir.path());
        audit.configure(Some(AuditConfig { file_bytes_max: 2_000, files_max: 3 })).expect("a file");
        (0..100).for_each(|status| audit.write(entry(status)));
        let mut files: Vec<_> = fs::read_dir(dir.path()).expect("files").map(|it| it.expect("one").path()).collect();
        files.sort();
        assert_eq!(files.len(), 3, "{files:?}");
        assert!(files.iter().all(|file| fs::metadata(file).expect("a file").len() <= 2_000));
        let all: Vec<u64> = [&files[2], &files[1], &files[0]]
            .iter()
            .flat_map(|file| lines(file))
            .map(|line| line["status"].as_u64().expect("a status"))
            .collect();
        assert_eq!(all, (100 - all.len() as u64..100).collect::<Vec<_>>(), "in order, without a gap");
        assert!(all.len() > 20);
        audit.configure(None).expect("no file");
        audit.write(entry(999));
        assert!(lines(&files[0]).iter().all(|line| line["status"] != 999));
    }

    #[test]
    fn a_line_that_a_crash_has_torn_spoils_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE);
        fs::write(&path, "{\"status\":1}\n{\"stat").expect("a file");
        let audit = Audit::new(dir.path());
        audit.configure(Some(AuditConfig { file_bytes_max: 1 << 20, files_max: 1 })).expect("a file");
        audit.write(Entry { path: "ü".repeat(2_000), claimed: Some("x".repeat(60_000)), ..entry(2) });
        audit.write(entry(3));
        let text = fs::read_to_string(&path).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[1]), (4, "{\"stat"));
        assert!(lines[2].contains("\"status\":2") && lines[2].len() < 2_000 && lines[3].contains("\"status\":3"));
    }

    /// What holds up a rotation, at each of its steps.
    #[test]
    fn a_rotation_that_fails_again_and_again_loses_nothing() {
        for blocked in ["audit.jsonl.new", "audit.jsonl.3", "audit.jsonl"] {
            let dir = tempfile::tempdir().expect("a directory");
            let at = |name: &str| dir.path().join(name);
            let audit = Audit::new(dir.path());
            audit.configure(Some(AuditConfig { file_bytes_max: 2_000, files_max: 4 })).expect("a file");
            (0..60).for_each(|status| audit.write(entry(status)));
            let count = || -> usize {
                let files = fs::read_dir(dir.path()).expect("files").map(|it| it.expect("one").path());
                files.filter(|file| file.is_file()).map(|file| lines(&file).len()).sum()
            };
            let before = count();
            // A directory with something in it is neither replaced by a file nor written to.
            let _absent = fs::rename(at(blocked), at("elsewhere"));
            fs::create_dir_all(at(blocked).join("full")).expect("a directory");
            (60..160).for_each(|status| audit.write(entry(status)));
            fs::remove_dir_all(at(blocked)).expect("it is gone");
            // The present one is written to still, even where it was moved.
            assert_eq!(count(), before + 100, "{blocked}");
            (160..165).for_each(|status| audit.write(entry(status)));
            let newest = lines(&at("audit.jsonl")).pop().expect("a line");
            assert_eq!(newest["status"], 164, "{blocked}: it is written again");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join(FILE)).expect("a directory in its place");
        let audit = Audit::new(dir.path());
        let error = audit.configure(Some(AuditConfig { file_bytes_max: 1 << 20, files_max: 1 })).expect_err("no file");
        assert_eq!(error.code, "audit-file");
    }

    #[test]
    fn many_refusals_are_counted_and_those_of_strangers_hide_no_others() {
        let audit = Audit::new(Path::new("/nowhere"));
        let now = Instant::now();
        let written = (0..1_000).filter(|_| audit.admit_refusal(false, now).is_some()).count();
        assert_eq!(written, 60);
        assert_eq!(audit.admit_refusal(true, now), Some(0));
        assert_eq!(audit.admit_refusal(false, now + Duration::from_secs(2)), Some(940));
        assert_eq!(audit.admit_refusal(false, now + Duration::from_secs(2)), Some(0));
        assert_eq!(audit.admit_refusal(false, now + Duration::from_secs(2)), None);
    }
}
