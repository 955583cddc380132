//! `cargo xtask soak`: the long form of the tests.

use crate::breaks;
use crate::plugins::{self, Result};

/// Kills of each pipeline in the long form.
const SOAK_KILLS: &str = "50";

/// Requests that are made up for each operation of the API in the long form.
const SOAK_EXAMPLES: &str = "300";

/// The crash oracle with many kills, many links at once with their model, all faults of Kafka, many requests that are made up, and every break in the end.
pub(crate) fn soak() -> Result<()> {
    plugins::build(&[], &crate::root().join("target/plugins"))?;
    let kills = std::env::var("TIDEGATE_KILLS").unwrap_or_else(|_| SOAK_KILLS.to_owned());
    let examples = std::env::var("TIDEGATE_EXAMPLES").unwrap_or_else(|_| SOAK_EXAMPLES.to_owned());
    let it = ["properties::", "crash::", "failover::a_daemon_that_dies", "soak::"].map(|tests| ("it", tests));
    for (target, tests) in it.into_iter().chain([("faults", "")]) {
        let arguments =
            ["test", "--release", "--workspace", "--test", target, tests, "--", "--nocapture", "--test-threads", "1"];
        crate::cargo_with(&arguments, &[("TIDEGATE_KILLS", &kills), ("TIDEGATE_EXAMPLES", &examples)])?;
    }
    breaks::breaks(&[])
}
