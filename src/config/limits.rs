//! `limits` of the daemon and of a stage: what plugins may use.

use crate::model::Limits;

use super::reader::Table;

const MS: std::ops::RangeInclusive<u64> = 1..=60_000;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The limits that a table sets; `default` has the others.
pub(super) fn read_limits(mut table: Table<'_>, default: &Limits) -> Limits {
    let (time_ms, record_time_ms) = read_times(&mut table, default);
    let limits = Limits {
        time_ms,
        record_time_ms,
        memory_bytes: table.size("memory", default.memory_bytes, MIB..=4 * GIB),
        table_elements: table.integer("table_elements", default.table_elements, 1..=10_000_000),
        instances: table.integer("instances", default.instances, 1..=1000),
        handles: table.integer("handles", default.handles, 1..=1_000_000),
        // The upper bound keeps ranges in an output within 32 bits.
        output_bytes: table.size("output_bytes", default.output_bytes, KIB..=GIB),
        records_per_input: table.integer("records_per_input", default.records_per_input, 1..=1_000_000),
        host_calls_per_record: table.integer("host_calls_per_record", default.host_calls_per_record, 1..=1_000_000),
        log_lines_per_s: table.integer("log_lines_per_s", default.log_lines_per_s.into(), 0..=100_000) as u32,
        metric_names: table.integer("metric_names", default.metric_names.into(), 0..=10_000) as u32,
        state_bytes: table.size("state_bytes", default.state_bytes, KIB..=64 * GIB),
        // The API takes no larger component either.
        component_bytes: table.size("component_bytes", default.component_bytes, KIB..=64 * MIB),
    };
    table.finish();
    limits
}

/// The time of a batch and of a record that is alone. Where only the batch is given less time, the record follows.
fn read_times(table: &mut Table<'_>, default: &Limits) -> (u64, u64) {
    let batch = table.item("time_ms");
    let time_ms = batch.as_ref().map_or(Some(default.time_ms), |item| item.integer(MS));
    let record = table.item("record_time_ms");
    let record_time_ms = record.as_ref().and_then(|item| item.integer(MS));
    if let (Some(time_ms), Some(record_time_ms), Some(record)) = (time_ms, record_time_ms, record)
        && record_time_ms > time_ms
    {
        let message = format!("a record would have {record_time_ms} ms, and its whole batch {time_ms} ms");
        let help = format!("write {time_ms} at most, or raise \"time_ms\"");
        record.report.error_if_all_was_read(&record.place, message, help);
    }
    let time_ms = time_ms.unwrap_or(default.time_ms);
    (time_ms, record_time_ms.unwrap_or(default.record_time_ms).min(time_ms))
}
