//! What the process uses, as the system tells it. What it does not tell is left out.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

use super::table;
use crate::api::exposition::Page;

pub(super) fn put(page: &mut Page) {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    page.put(&table::PROCESS_CPU, &[], used.tv_sec as f64 + used.tv_nsec as f64 / 1e9);
    if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().and_then(|status| resident_bytes(&status)) {
        page.put(&table::PROCESS_MEMORY, &[], bytes as f64);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // The directory itself is open while it is read.
        page.put(&table::PROCESS_FDS, &[], open.count().saturating_sub(1) as f64);
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_the_system() {
        let status = "Name:\ttidegate\nVmPeak:\t  900000 kB\nVmRSS:\t   32768 kB\nThreads:\t9\n";
        assert_eq!(resident_bytes(status), Some(32 << 20));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
        assert_eq!(resident_bytes("VmRSS:\t lots kB\n"), None);
    }
}
