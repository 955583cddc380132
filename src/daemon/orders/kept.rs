//! The file of orders that were accepted and not carried out yet.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::order::Order;
use crate::files::private;

/// The file, in the data directory.
const FILE: &str = "orders.json";

/// What it is written to first.
const NEXT: &str = "orders.json.next";

/// The form that this program writes.
const FORM: u32 = 1;

/// An order that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Accepted {
    pub(super) link: String,
    pub(super) order: Order,
    pub(super) by: String,
    /// When it was given, in milliseconds since 1970-01-01 UTC.
    pub(super) at_ms: i64,
}

#[derive(Serialize, Deserialize)]
struct Content {
    v: u32,
    orders: Vec<Accepted>,
}

/// The file.
#[derive(Debug)]
pub(super) struct Kept(PathBuf);

impl Kept {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self(data_dir.to_owned())
    }

    /// All of them, oldest first.
    ///
    /// # Errors
    /// The file cannot be read, or another program has written it.
    pub(super) fn read(&self) -> io::Result<Vec<Accepted>> {
        let path = self.0.join(FILE);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let content: Content = serde_json::from_reader(private::read(&path)?)?;
        if content.v == FORM {
            return Ok(content.orders);
        }
        Err(io::Error::other(format!("it has form {}, and this tidegate knows {FORM}", content.v)))
    }

    /// Have these be all there are, durably: after a crash the file has them, or those of before.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn write(&self, orders: Vec<Accepted>) -> io::Result<()> {
        let mut file = private::create(&self.0.join(NEXT))?;
        file.write_all(&serde_json::to_vec(&Content { v: FORM, orders })?)?;
        file.sync_all()?;
        fs::rename(self.0.join(NEXT), self.0.join(FILE))?;
        private::sync_dir(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::LinkTransition;

    #[test]
    fn what_was_accepted_is_read_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let kept = Kept::new(dir.path());
        assert_eq!(kept.read().expect("nothing"), []);
        let order = |order| Accepted { link: "l".into(), order, by: "ann".to_owned(), at_ms: 7 };
        let orders = vec![
            order(Order::Steer { transition: LinkTransition::Stop }),
            order(Order::Throttle { is_configured: false, rate: None }),
            order(Order::FailOver { drain_ms: Some(5) }),
            order(Order::Delete { expected: Some(3) }),
        ];
        kept.write(orders.clone()).expect("written");
        // A crash between writing and renaming leaves this behind.
        fs::write(dir.path().join(NEXT), "half").expect("written");
        assert_eq!(kept.read().expect("read"), orders);
        // The bytes of form 1.
        let text =
            r#"{"v":1,"orders":[{"link":"l","order":{"kind":"steer","transition":"stop"},"by":"ann","at_ms":7}]}"#;
        fs::write(dir.path().join(FILE), text).expect("written");
        assert_eq!(kept.read().expect("read"), orders[..1]);
        fs::write(dir.path().join(FILE), text.replace(r#""v":1"#, r#""v":2"#)).expect("written");
        assert!(kept.read().expect_err("newer").to_string().contains("form 2"));
    }
}
