//! All metrics: names, kinds, labels and what they say. `docs/metrics.md` has the same.

use crate::api::exposition::{Kind, Metric};

macro_rules! table {
    ($($metric:ident = $name:literal, $kind:ident, [$($label:literal),*], $help:literal;)*) => {
        $(
            pub(super) static $metric: Metric =
                Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )*
        /// In the order of the document.
        #[cfg(test)]
        pub(super) static ALL: &[&Metric] = &[$(&$metric),*];
    };
}

table! {
    MESSAGES = "tidegate_replication_messages_total", Counter, ["link_id"], "Records that the link has written to the target and committed.";
    BYTES = "tidegate_replication_bytes_total", Counter, ["link_id"], "Bytes of their keys, values and headers.";
    RECORDS_READ = "tidegate_records_read_total", Counter, ["link_id"], "Records that the link has read from the source and committed.";
    RECORDS_FILTERED = "tidegate_records_filtered_total", Counter, ["link_id"], "Records that the link's filter or a stage has dropped, and those that had come from the target.";
    RECORDS_TRANSFORMED = "tidegate_records_transformed_total", Counter, ["link_id"], "Records that the link's transform or a stage has changed, or a stage has made; each time it was.";
    RECORDS_PUT_ASIDE = "tidegate_records_put_aside_total", Counter, ["link_id"], "Records that a stage has rejected or trapped on, or that the target does not take.";
    LAG_MS = "tidegate_replication_lag_ms", Gauge, ["link_id", "topic", "partition"], "How long ago the next record to be copied was written, in milliseconds; 0 if there is none. Left out where its timestamp says nothing: none, 0, negative, or more than an hour ahead.";
    LAG_RECORDS = "tidegate_replication_lag_records", Gauge, ["link_id", "topic", "partition"], "Records that the source has and the link has not committed.";
    PARTITIONS_FOLDED = "tidegate_replication_partitions_folded", Gauge, ["link_id"], "Partitions whose lags are told together with those of others, because of metrics_partitions_max.";
    PARTITIONS_STALLED = "tidegate_replication_partitions_stalled", Gauge, ["link_id"], "Partitions that stand still while their lanes go on with others.";
    LATENCY = "tidegate_replication_latency_seconds", Histogram, ["link_id"], "From the timestamp of a record until readers of the target see it; one for each commit, that of the oldest of the records that its batches begin with.";
    HEARTBEAT_LATENCY = "tidegate_heartbeat_latency_seconds", Histogram, ["link_id"], "The same of heartbeats, each.";
    COMMIT = "tidegate_commit_seconds", Histogram, ["link_id"], "How long commits take, until readers of the target see them.";
    SWAP_PAUSE = "tidegate_swap_pause_seconds", Histogram, ["link_id"], "For how long a lane stands still to take over another revision.";
    ERRORS = "tidegate_replication_errors_total", Counter, ["link_id"], "Failures of lanes, those that were retried as well.";
    CONSECUTIVE_FAILURES = "tidegate_replication_consecutive_failures", Gauge, ["link_id"], "Failures of lanes since the last commit.";
    LOST_OFFSETS = "tidegate_replication_lost_offsets", Gauge, ["link_id"], "Offsets that are lost, and of which nobody has said yet where to go on.";
    SOURCE_REACHABLE = "tidegate_source_cluster_reachable", Gauge, ["link_id", "cluster_id"], "Whether the source has answered when it was asked last: 1 or 0.";
    TARGET_REACHABLE = "tidegate_target_cluster_reachable", Gauge, ["link_id", "cluster_id"], "Whether the target has answered when it was asked last: 1 or 0.";
    LINK_STATUS = "tidegate_link_status", Gauge, ["link_id", "status"], "1 for the present status of the link, 0 for all others.";
    LINK_UPTIME = "tidegate_link_uptime_seconds", Gauge, ["link_id"], "Since when the link runs, in seconds.";
    NOTICES = "tidegate_link_notices", Gauge, ["link_id", "code"], "Notices that the link shows, by code.";
    STAGE_RECORDS_IN = "tidegate_stage_records_in_total", Counter, ["link_id", "stage"], "Records that were handed to the stage.";
    STAGE_RECORDS_OUT = "tidegate_stage_records_out_total", Counter, ["link_id", "stage"], "Records that came out of it.";
    STAGE_DROPPED = "tidegate_stage_records_dropped_total", Counter, ["link_id", "stage"], "Records that it has dropped.";
    STAGE_REJECTED = "tidegate_stage_records_rejected_total", Counter, ["link_id", "stage"], "Records that it has rejected.";
    STAGE_TRAPPED = "tidegate_stage_records_trapped_total", Counter, ["link_id", "stage"], "Records that it has trapped on.";
    STAGE_TRAPS = "tidegate_stage_traps_total", Counter, ["link_id", "stage", "kind"], "Calls that have trapped, by kind; a record that is put aside takes several.";
    STAGE_BATCH = "tidegate_stage_batch_seconds", Histogram, ["link_id", "stage"], "How long batches are in the stage, by the clock on the wall, with all calls that a search for bad records takes.";
    STAGE_CPU = "tidegate_stage_cpu_seconds_total", Counter, ["link_id", "stage"], "CPU time of its calls; one of eight is measured and stands for the others.";
    STAGE_MEMORY = "tidegate_stage_memory_bytes", Gauge, ["link_id", "stage"], "Linear memory of the instance that was called last.";
    STAGE_STATE = "tidegate_stage_state_bytes", Gauge, ["link_id", "stage"], "What a stage with state remembers, in the lanes of this daemon.";
    STAGE_LOG_DROPPED = "tidegate_stage_log_lines_dropped_total", Counter, ["link_id", "stage"], "Log lines of the plugin that were over the limit.";
    STAGE_METRICS_DROPPED = "tidegate_stage_metrics_dropped_total", Counter, ["link_id", "stage"], "Changes of the plugin's own counters and gauges that were over the limit.";
    PLUGIN_METRIC = "tidegate_plugin_metric", Unknown, ["link_id", "stage", "name"], "The plugin's own counters and gauges, by name.";
    BUILD_INFO = "tidegate_build_info", Gauge, ["version"], "Always 1.";
    UPTIME = "tidegate_uptime_seconds", Gauge, [], "Since when the daemon runs, in seconds.";
    PROCESS_MEMORY = "tidegate_process_resident_memory_bytes", Gauge, [], "Memory that the daemon has in use.";
    PROCESS_CPU = "tidegate_process_cpu_seconds_total", Counter, [], "CPU time that the daemon has used.";
    PROCESS_FDS = "tidegate_process_open_fds", Gauge, [], "Files and connections that the daemon has open.";
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn row(metric: &Metric) -> String {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{}` | {} | {} | {} |", metric.name, metric.kind.word(), labels.join(", "), metric.help)
    }

    #[test]
    fn the_document_has_exactly_the_metrics_that_there_are() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        let text = std::fs::read_to_string(file).expect("docs/metrics.md");
        let documented: Vec<&str> = text.lines().filter(|line| line.starts_with("| `tidegate_")).collect();
        let rows: Vec<String> = ALL.iter().map(|metric| row(metric)).collect();
        assert_eq!(documented, rows);
    }

    #[test]
    fn names_are_as_prometheus_wants_them() {
        for metric in ALL {
            let letters = metric.name.bytes().all(|letter| letter.is_ascii_lowercase() || letter == b'_');
            assert!(letters && metric.name.starts_with("tidegate_"), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert!(!metric.labels.contains(&"le"), "{}", metric.name);
            assert!(metric.help.ends_with('.') && !metric.help.contains(['\n', '\\', '|', '"']), "{}", metric.help);
            let same = ALL.iter().filter(|other| other.name == metric.name).count();
            assert_eq!(same, 1, "{}", metric.name);
        }
    }
}
