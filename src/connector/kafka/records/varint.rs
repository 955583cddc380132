//! Numbers of variable length: zigzag, seven bits a byte, the lowest first.

/// The bytes that `value` takes, 1 to 10.
pub(super) fn size(value: i64) -> usize {
    // 64 bits take ten bytes; `| 1` because zero takes one too.
    (70 - (zigzag(value) | 1).leading_zeros() as usize) / 7
}

/// Append `value`.
pub(in crate::connector::kafka) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The number at `at`, which moves behind it. `None`: the bytes end before the number, or it has more than 64 bits.
#[inline]
pub(in crate::connector::kafka) fn take(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let first = *bytes.get(*at)?;
    *at += 1;
    if first < 0x80 {
        return Some(unzigzag(first.into()));
    }
    let mut value = u64::from(first & 0x7f);
    for shift in (7..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        let part = u64::from(byte & 0x7f);
        if part << shift >> shift != part {
            return None;
        }
        value |= part << shift;
        if byte < 0x80 {
            return Some(unzigzag(value));
        }
    }
    None
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_bytes_of_the_protocol() {
        for (value, bytes) in [
            (0, &[0_u8][..]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (64, &[0x80, 1]),
            (-65, &[0x81, 1]),
            (300, &[0xd8, 4]),
            (i64::MAX, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(size(value), bytes.len(), "{value}");
            let mut at = 0;
            assert_eq!((take(bytes, &mut at), at), (Some(value), bytes.len()));
            assert_eq!(take(&bytes[..bytes.len() - 1], &mut 0), None, "{value} without its last byte");
        }
    }

    #[test]
    fn more_than_64_bits_are_refused() {
        assert_eq!(take(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], &mut 0), None);
        assert_eq!(take(&[0xff; 11], &mut 0), None);
    }

    #[test]
    fn every_size_is_that_of_the_bytes() {
        for shift in 0..64 {
            for value in [1_i64 << shift, (1_i64 << shift).wrapping_sub(1), (1_i64 << shift).wrapping_neg()] {
                let mut out = Vec::new();
                put(&mut out, value);
                assert_eq!(size(value), out.len(), "{value}");
            }
        }
    }
}
