//! The contract's random numbers: functions of a record's place, so that a second run makes the same ones.
//!
//! FNV-1a of 64 bits over the stage, `0xff`, the topic, `0xff`, then partition (u32), offset (i64) and ordinal (u32), each
//! little-endian; and the finalizer of SplitMix64 over that. `0xff` occurs in no UTF-8, so no two places make the same
//! bytes. `wit/README.md` describes it for other languages: it never changes.

/// What the records of a batch have in common.
pub(crate) fn seed(stage: &str, topic: &str, partition: u32) -> u64 {
    let hash = fnv1a(0xcbf2_9ce4_8422_2325, stage.as_bytes());
    let hash = fnv1a(hash, &[0xff]);
    let hash = fnv1a(hash, topic.as_bytes());
    let hash = fnv1a(hash, &[0xff]);
    fnv1a(hash, &partition.to_le_bytes())
}

/// The number of one record.
pub(crate) fn of_record(seed: u64, offset: i64, ordinal: u32) -> u64 {
    let hash = fnv1a(seed, &offset.to_le_bytes());
    let mut z = fnv1a(hash, &ordinal.to_le_bytes());
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Targets are verified against these numbers years later: they never change.
    #[test]
    fn numbers_are_what_they_were() {
        for (stage, topic, partition, offset, ordinal, number) in [
            ("sample", "orders", 0, 0, 0, 0x7a70_d685_8f02_3e92),
            ("sample", "orders", 0, 0, 1, 0xd8d0_684c_b2b3_b601),
            ("sample", "orders", 3, -1, 0, 0x2176_ddef_2ec8_cd0e),
            ("", "", 0, 0, 0, 0xb783_ab6f_edeb_19c4),
        ] {
            assert_eq!(
                of_record(seed(stage, topic, partition), offset, ordinal),
                number,
                "{stage} {topic}-{partition} {offset}.{ordinal}"
            );
        }
    }

    #[test]
    fn stage_and_topic_do_not_run_into_each_other() {
        assert_ne!(seed("ab", "c", 0), seed("a", "bc", 0));
    }
}
