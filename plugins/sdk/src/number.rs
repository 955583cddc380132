//! JSON numbers, compared by what they are.

use std::borrow::Cow;
use std::cmp::Ordering;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};
use serde_json::value::RawValue;

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

/// A number of a configuration. `serde_json::Number` would round what 64 bits cannot hold.
impl<'de> Deserialize<'de> for Num {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let part = Box::<RawValue>::deserialize(deserializer)?;
        Self::read(part.get()).ok_or_else(|| D::Error::custom(format!("{part} is no number")))
    }
}

impl JsonSchema for Num {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Number".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number" })
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
    /// 2^127: every integer here is below it, and none is below its negative.
    const BEYOND: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;
    if !(-BEYOND..BEYOND).contains(&float) {
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
            ("170141183460469231731687303715884105727", Ordering::Less, "170141183460469231731687303715884105728"),
            ("170141183460469231731687303715884105727", Ordering::Less, "1.75e38"),
            ("170141183460469231731687303715884105726", Ordering::Less, "170141183460469231731687303715884105727"),
            ("-170141183460469231731687303715884105728", Ordering::Equal, "-170141183460469231731687303715884105728.0"),
            ("-170141183460469231731687303715884105728", Ordering::Greater, "-1.75e38"),
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
