//! The daemon's numbers, for Prometheus.
//!
//! Nothing is counted here: a scrape reads what lanes and stages count where they work, and what was measured in the background.
//!
//! Invariants
//! - A scrape waits for no cluster, and a lane for a scrape only as long as reading its numbers takes.
//! - A number that is not known is left out; it is never 0.
//! - How many numbers a link has is bounded, however many partitions it reads and whatever its plugins count.
//!
//! Reading order: `table`, then this file, `lags` and `process`.

mod lags;
mod process;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use super::view;
use super::world::Hosted;
use crate::api::exposition::{Metric, Page};
use crate::api::wire::Time;
use crate::link::Link;
use crate::link::histogram::{Histogram, Reading};
use crate::link::pipeline::Stage;
use crate::link::status::LaneStatus;
use crate::link::supervisor::LinkState;

/// All states of a link.
const STATES: [LinkState; 7] = [
    LinkState::Stopped,
    LinkState::Starting,
    LinkState::Active,
    LinkState::Degraded,
    LinkState::Paused,
    LinkState::Failed,
    LinkState::FailedOver,
];

/// All numbers of a daemon that was started then. Of `partitions_max` partitions of a link the lags are told one by one.
pub(super) fn page(started: Instant, links: &[Arc<Hosted>], partitions_max: usize) -> Page {
    let mut page = Page::default();
    page.put(&table::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
    page.put(&table::UPTIME, &[], started.elapsed().as_secs_f64());
    process::put(&mut page);
    for hosted in links {
        let link = hosted.link();
        put_link(&mut page, &link);
        if let Some(lags) = link.lags() {
            lags::put(&mut page, &link.config().id, &lags, partitions_max);
        }
        put_stages(&mut page, &link);
    }
    page
}

fn put_link(page: &mut Page, link: &Link) {
    let (config, counters) = (link.config(), link.counters());
    let id: &str = &config.id;
    let counted: [(&'static Metric, &AtomicU64); 8] = [
        (&table::MESSAGES, &counters.records_out),
        (&table::BYTES, &counters.bytes_out),
        (&table::RECORDS_READ, &counters.records_in),
        (&table::RECORDS_FILTERED, &counters.records_filtered),
        (&table::RECORDS_TRANSFORMED, &counters.records_transformed),
        (&table::RECORDS_PUT_ASIDE, &counters.records_put_aside),
        (&table::ERRORS, &counters.errors),
        (&table::CONSECUTIVE_FAILURES, &counters.consecutive_failures),
    ];
    for (metric, counter) in counted {
        page.put(metric, &[id], number(counter));
    }
    put_histogram(page, &table::COMMIT, &[id], &counters.timings.commit);
    put_histogram(page, &table::LATENCY, &[id], &counters.timings.latency);
    put_histogram(page, &table::SWAP_PAUSE, &[id], &counters.timings.swap_pause);
    if let Some(latencies) = link.latencies() {
        put_reading(page, &table::HEARTBEAT_LATENCY, &[id], &latencies);
    }
    let answers = [
        (&table::SOURCE_REACHABLE, &config.source, link.source_answer()),
        (&table::TARGET_REACHABLE, &config.target, link.target_answer()),
    ];
    for (metric, cluster, answer) in answers {
        if let Some(answer) = answer {
            page.put(metric, &[id, cluster], f64::from(u8::from(answer.is_reachable())));
        }
    }
    let (state, _) = link.state();
    for other in STATES {
        let word = view::status(other).word();
        page.put(&table::LINK_STATUS, &[id, word], f64::from(u8::from(other == state)));
    }
    if let Some(started) = link.started_ms() {
        page.put(&table::LINK_UPTIME, &[id], Time::now().0.saturating_sub(started).max(0) as f64 / 1000.0);
    }
    put_notices(page, link);
    let stalled: usize = link.each_lane(|_, lane| lane.stalled.len()).iter().sum();
    page.put(&table::PARTITIONS_STALLED, &[id], stalled as f64);
    let lost = |lane: &LaneStatus| {
        let lost = lane.failure.as_ref().and_then(|failure| failure.lost.as_ref());
        lost.map_or(0, |lost| lost.to.saturating_sub(lost.from).max(0))
    };
    let lost: i64 = link.each_lane(|_, lane| lost(lane)).iter().sum();
    page.put(&table::LOST_OFFSETS, &[id], lost as f64);
}

fn put_notices(page: &mut Page, link: &Link) {
    let mut by_code: BTreeMap<&str, u32> = BTreeMap::new();
    for notice in link.notices() {
        *by_code.entry(notice.code).or_default() += 1;
    }
    for (code, notices) in by_code {
        page.put(&table::NOTICES, &[&link.config().id, code], notices.into());
    }
}

fn put_stages(page: &mut Page, link: &Link) {
    let stages = link.stages();
    let mut state_bytes = vec![0_u64; stages.len()];
    link.each_lane(|_, lane| {
        state_bytes.iter_mut().zip(&lane.state_bytes).for_each(|(sum, bytes)| *sum += bytes);
    });
    for (stage, state_bytes) in stages.iter().zip(state_bytes) {
        put_stage(page, &link.config().id, stage, state_bytes);
    }
}

fn put_stage(page: &mut Page, link: &str, stage: &Stage, state_bytes: u64) {
    let stats = &stage.stats;
    let labels = [link, stage.spec.name.as_str()];
    let counted: [(&'static Metric, &AtomicU64); 6] = [
        (&table::STAGE_RECORDS_IN, &stats.records_in),
        (&table::STAGE_RECORDS_OUT, &stats.records_out),
        (&table::STAGE_DROPPED, &stats.dropped),
        (&table::STAGE_REJECTED, &stats.rejected),
        (&table::STAGE_TRAPPED, &stats.trapped),
        (&table::STAGE_MEMORY, &stats.memory_bytes),
    ];
    for (metric, counter) in counted {
        page.put(metric, &labels, number(counter));
    }
    page.put(&table::STAGE_CPU, &labels, number(&stats.cpu_time_ns) / 1e9);
    for (kind, calls) in stats.traps() {
        page.put(&table::STAGE_TRAPS, &[labels[0], labels[1], kind], calls as f64);
    }
    put_histogram(page, &table::STAGE_BATCH, &labels, &stats.batch_times);
    if stage.plugin.state_version().is_some() {
        page.put(&table::STAGE_STATE, &labels, state_bytes as f64);
    }
    let dropped = stats.metrics.dropped();
    page.put(&table::STAGE_LOG_DROPPED, &labels, dropped.log_lines as f64);
    page.put(&table::STAGE_METRICS_DROPPED, &labels, dropped.metrics as f64);
    for (name, value) in stats.metrics.values() {
        page.put(&table::PLUGIN_METRIC, &[labels[0], labels[1], &name], value);
    }
}

fn put_histogram(page: &mut Page, metric: &'static Metric, labels: &[&str], histogram: &Histogram) {
    put_reading(page, metric, labels, &histogram.read());
}

fn put_reading(page: &mut Page, metric: &'static Metric, labels: &[&str], reading: &Reading) {
    page.put_durations(metric, labels, reading.bounds, &reading.classes, reading.sum);
}

fn number(counter: &AtomicU64) -> f64 {
    counter.load(Relaxed) as f64
}
