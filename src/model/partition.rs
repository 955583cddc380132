//! Which lane owns a partition, and which partition a key belongs to.

use super::TopicPartition;

/// The lane that owns a source partition: `(fnv1a(topic) + partition) mod lanes`.
///
/// Neighbouring partitions of a topic fall on different lanes. The hash is FNV-1a of 32 bits; it is
/// part of the layout of a link and never changes.
pub fn lane_of(partition: &TopicPartition, lanes: u32) -> u32 {
    let hash =
        partition.topic.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.wrapping_add(partition.partition) % lanes.max(1)
}

/// The partition that Kafka's default partitioner picks for `key`: `(murmur2(key) & 0x7fffffff) mod partitions`.
pub fn partition_of_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// MurmurHash2 of 32 bits with the seed that Kafka's Java client uses.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let tail = chunks.remainder();
    if !tail.is_empty() {
        for (index, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own test of its hash.
    #[test]
    fn murmur2_agrees_with_kafka() {
        for (text, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ] {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }

    /// These pairs are stored in the world as soon as somebody runs a link: they never change.
    #[test]
    fn lanes_are_what_they_were() {
        for (topic, partition, lanes, lane) in
            [("orders", 0, 4, 0), ("orders", 1, 4, 1), ("orders", 2, 4, 2), ("a", 0, 7, 5), ("", 5, 3, 0)]
        {
            assert_eq!(lane_of(&TopicPartition::new(topic, partition), lanes), lane, "{topic}-{partition} of {lanes}");
        }
    }
}
