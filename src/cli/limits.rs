//! What a plugin may use, in the words of the configuration.

use super::table::bytes;
use crate::model::Limits;

/// All limits by the keys that set them, with those first that plugins reach most often. A line of the answer holds a few of them.
pub(super) fn limits(limits: &Limits) -> String {
    // Without `..`, so that a limit that is new cannot be forgotten here.
    let Limits {
        time_ms,
        record_time_ms,
        memory_bytes,
        table_elements,
        instances,
        handles,
        output_bytes,
        records_per_input,
        host_calls_per_record,
        log_lines_per_s,
        metric_names,
        state_bytes,
        component_bytes,
    } = limits;
    let size = |count: &u64| bytes(*count as f64);
    let (memory, output, state, component) =
        (size(memory_bytes), size(output_bytes), size(state_bytes), size(component_bytes));
    [
        format!("time_ms {time_ms}, record_time_ms {record_time_ms}, memory {memory}, state_bytes {state}"),
        format!("output_bytes {output}, records_per_input {records_per_input}, component_bytes {component}"),
        format!("table_elements {table_elements}, instances {instances}, handles {handles}"),
        format!(
            "host_calls_per_record {host_calls_per_record}, log_lines_per_s {log_lines_per_s}, metric_names {metric_names}"
        ),
    ]
    .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_shown_by_its_key() {
        let shown = limits(&Limits { time_ms: 250, state_bytes: 1536, ..Limits::default() });
        let expected = "\
time_ms 250, record_time_ms 100, memory 64.0 MiB, state_bytes 1.5 KiB
output_bytes 64.0 MiB, records_per_input 10000, component_bytes 64.0 MiB
table_elements 100000, instances 64, handles 10000
host_calls_per_record 1000, log_lines_per_s 100, metric_names 64";
        assert_eq!(shown, expected);
    }
}
