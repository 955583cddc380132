//! JSON numbers, compared by what they are.

use std::cmp::Ordering;

use serde_json::Number;

/// A number of a JSON document. Integers of up to 127 bits are exact; everything else is the nearest double. Two of them
/// compare by what they are, not by how they are written.
#[derive(Clone, Copy, Debug)]
pub enum Num {
    /// Written without fraction and exponent, and of up to 127 bits.
    Int(i128),
    /// Every other number. One that no double can hold is infinite.
    Float(f64),
}

impl Num {
    /// The number that a part of a JSON document is, if it is one.
    pub fn read(part: &str) -> Option<Self> {
        if !part.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return None;
        }
        // Nearly all integers fit 64 bits, and parsing 128 takes longer.
        let int = part.parse::<i64>().map(i128::from).or_else(|_| part.parse());
        int.map(Self::Int).or_else(|_| part.parse().map(Self::Float)).ok()
    }
}

impl From<&Number> for Num {
    fn from(number: &Number) -> Self {
        let int = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
        int.map_or_else(|| Self::Float(number.as_f64().unwrap_or(f64::NAN)), Self::Int)
    }
}

impl PartialEq for Num {
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl PartialOrd for Num {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (*self, *other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(&b)),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(&b),
            (Self::Int(a), Self::Float(b)) => compare(a, b),
            (Self::Float(a), Self::Int(b)) => compare(b, a).map(Ordering::reverse),
        }
    }
}

/// Compare without rounding the integer: a double cannot tell 2^53 from 2^53 + 1.
fn compare(int: i128, float: f64) -> Option<Ordering> {
    /// No integer here is as large.
    const BEYOND: f64 = 1.8e38;
    if float.abs() > BEYOND {
        return 0.0.partial_cmp(&float);
    }
    let whole = float.trunc();
    match int.cmp(&(whole as i128)) {
        Ordering::Equal => whole.partial_cmp(&float),
        unequal => Some(unequal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_by_what_numbers_are() {
        for (a, order, b) in [
            ("1", Ordering::Equal, "1.0"),
            ("100", Ordering::Equal, "1e2"),
            ("-0", Ordering::Equal, "0.0"),
            ("99.999", Ordering::Less, "100"),
            ("-1.5", Ordering::Less, "-1"),
            ("-1", Ordering::Greater, "-1.5"),
            ("9007199254740993", Ordering::Greater, "9007199254740992.0"),
            ("9223372036854775808", Ordering::Greater, "9223372036854775807"),
            ("18446744073709551616", Ordering::Greater, "18446744073709551615"),
            ("170141183460469231731687303715884105727", Ordering::Less, "1e39"),
            ("1e999", Ordering::Greater, "1e308"),
            ("-1e999", Ordering::Less, "-170141183460469231731687303715884105728"),
        ] {
            let (left, right) = (Num::read(a).expect(a), Num::read(b).expect(b));
            assert_eq!(left.partial_cmp(&right), Some(order), "{a} {b}");
            assert_eq!(right.partial_cmp(&left), Some(order.reverse()), "{b} {a}");
        }
    }

    #[test]
    fn other_parts_are_no_numbers() {
        for part in ["null", "\"1\"", "[1]", "true"] {
            assert!(Num::read(part).is_none(), "{part}");
        }
    }
}
