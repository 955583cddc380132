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
    use proptest::prelude::*;

    use super::*;

    /// How an integer and a finite double compare, with every digit of both: the double is `mantissa` times a
    /// power of two. An integer has 128 bits at most, so what is shifted further has an order all the same.
    fn exactly(int: i128, float: f64) -> Ordering {
        let sign = |negative: bool| if negative { -1 } else { 1 };
        let (bits, int_sign) = (float.to_bits(), int.signum());
        let (exponent, fraction) = ((bits >> 52 & 0x7ff) as i32, u128::from(bits & ((1 << 52) - 1)));
        let mantissa = if exponent == 0 { fraction } else { fraction | 1 << 52 };
        let float_sign = if mantissa == 0 { 0 } else { sign(bits >> 63 == 1) };
        if int_sign != float_sign || int_sign == 0 {
            return int_sign.cmp(&float_sign);
        }
        let shift = exponent.max(1) - 1075;
        let sizes = match u32::try_from(shift) {
            Ok(shift) if shift <= mantissa.leading_zeros() => int.unsigned_abs().cmp(&(mantissa << shift)),
            Ok(_) => Ordering::Less,
            Err(_) => {
                let right = shift.unsigned_abs().min(127);
                let whole = int.unsigned_abs().cmp(&(mantissa >> right));
                let has_more = mantissa & ((1 << right) - 1) != 0;
                whole.then(if has_more { Ordering::Less } else { Ordering::Equal })
            }
        };
        if int_sign < 0 { sizes.reverse() } else { sizes }
    }

    /// Integers of every length, and those around powers of two, where doubles have their steps.
    fn ints() -> impl Strategy<Value = i128> {
        let around = (0..=127_u32, -3..=3_i128, any::<bool>()).prop_map(|(power, off, negative)| {
            let size = (1_u128 << power) as i128;
            let int = size.wrapping_add(off);
            if negative { int.wrapping_neg() } else { int }
        });
        let any_length = (any::<i128>(), 0..128_u32).prop_map(|(int, right)| int >> right);
        // Beyond them there are doubles, which no integer may be taken for.
        let last = prop::sample::select(vec![i128::MIN, i128::MIN + 1, i128::MAX - 1, i128::MAX]);
        prop_oneof![around, any_length, last]
    }

    /// A double that has something to do with an integer, or nothing.
    fn beside(int: i128) -> impl Strategy<Value = f64> {
        let near = (-2..=2_i64).prop_map(move |off| f64::from_bits((int as f64).to_bits().wrapping_add_signed(off)));
        let fraction = (-4..=4_i32).prop_map(move |quarter| int as f64 + f64::from(quarter) / 4.0);
        let limit = (-3..=3_i64, any::<bool>()).prop_map(|(off, negative)| {
            let float = f64::from_bits(2_f64.powi(127).to_bits().wrapping_add_signed(off));
            if negative { -float } else { float }
        });
        let any = any::<u64>().prop_map(f64::from_bits);
        prop_oneof![near, fraction, limit, any].prop_filter("finite", |float| float.is_finite())
    }

    proptest! {
        #[test]
        fn an_integer_and_a_double_compare_as_exact_arithmetic_has_it(
            (int, float) in ints().prop_flat_map(|int| (Just(int), beside(int))),
        ) {
            let order = exactly(int, float);
            prop_assert_eq!(Num::Int(int).partial_cmp(&Num::Float(float)), Some(order), "{} {:e}", int, float);
            prop_assert_eq!(Num::Float(float).partial_cmp(&Num::Int(int)), Some(order.reverse()), "{:e} {}", float, int);
        }
    }

    #[test]
    fn the_exact_comparison_is_right_where_it_is_known() {
        let limit = 2_f64.powi(127);
        for (int, float, order) in [
            (i128::MAX, limit, Ordering::Less),
            (i128::MIN, -limit, Ordering::Equal),
            (i128::MIN, -1.75e38, Ordering::Greater),
            (i128::MAX, limit.next_down(), Ordering::Greater),
            (0, -0.0, Ordering::Equal),
            (0, f64::MIN_POSITIVE, Ordering::Less),
            (1, f64::from_bits(1), Ordering::Greater),
            (-1, -1.5, Ordering::Greater),
            ((1 << 53) + 1, 2_f64.powi(53), Ordering::Greater),
            (1, f64::MAX, Ordering::Less),
        ] {
            assert_eq!(exactly(int, float), order, "{int} {float:e}");
        }
    }

    #[test]
    fn no_integer_compares_with_what_is_no_number_and_all_are_within_infinity() {
        for int in [i128::MIN, -1, 0, 1, i128::MAX] {
            assert_eq!(Num::Int(int).partial_cmp(&Num::Float(f64::NAN)), None);
            assert!(Num::Int(int) < Num::Float(f64::INFINITY) && Num::Int(int) > Num::Float(f64::NEG_INFINITY));
        }
    }

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
