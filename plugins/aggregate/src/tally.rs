//! What is computed of the records of a group in a window.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_plugin::Reject;
use tidegate_plugin::json::Num;

use crate::broken;
use crate::window::Window;

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Function {
    /// The number of records.
    Count,
    /// The sum of their numbers.
    Sum,
    /// The smallest number.
    Min,
    /// The largest number.
    Max,
}

/// What is known of the records so far: enough for every function, so that the configuration may come to ask for another one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tally {
    count: u64,
    /// `None` if the numbers of some records were not wanted when these came.
    numbers: Option<Numbers>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Numbers {
    sum: Num,
    min: Num,
    max: Num,
}

impl Tally {
    /// The tally of one record.
    pub(crate) fn first(number: Option<Num>) -> Self {
        Self { count: 1, numbers: number.map(|n| Numbers { sum: n, min: n, max: n }) }
    }

    /// The tally with another record.
    pub(crate) fn add(self, number: Option<Num>) -> Result<Self, Reject> {
        let numbers = match (self.numbers, number) {
            (Some(numbers), Some(number)) => Some(numbers.add(number)?),
            _ => None,
        };
        Ok(Self { count: self.count + 1, numbers })
    }

    /// The result as a JSON object.
    pub(crate) fn json(&self, window: Window, functions: &[Function]) -> String {
        let number = |number: fn(Numbers) -> Num| self.numbers.map(number).map_or_else(|| "null".to_owned(), written);
        let mut json = format!(r#"{{"window_start":{},"window_end":{}"#, window.start, window.end);
        for (function, name, result) in [
            (Function::Count, "count", self.count.to_string()),
            (Function::Sum, "sum", number(|numbers| numbers.sum)),
            (Function::Min, "min", number(|numbers| numbers.min)),
            (Function::Max, "max", number(|numbers| numbers.max)),
        ] {
            if functions.contains(&function) {
                let _cannot_fail = write!(json, r#","{name}":{result}"#);
            }
        }
        json.push('}');
        json
    }

    /// The value in the state: the count as 8 bytes, then nothing, or sum, smallest and largest number. A number is 0 and 16
    /// bytes of an integer, or 1 and 8 bytes of a double. All are little-endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.count.to_le_bytes().to_vec();
        for number in self.numbers.iter().flat_map(|numbers| [numbers.sum, numbers.min, numbers.max]) {
            match number {
                Num::Int(int) => {
                    bytes.push(0);
                    bytes.extend(int.to_le_bytes());
                }
                Num::Float(float) => {
                    bytes.push(1);
                    bytes.extend(float.to_le_bytes());
                }
            }
        }
        bytes
    }

    /// Read a value.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Reject> {
        let read = || {
            let (count, mut rest) = bytes.split_first_chunk()?;
            let count = u64::from_le_bytes(*count);
            if rest.is_empty() {
                return Some(Self { count, numbers: None });
            }
            let numbers = Numbers { sum: number(&mut rest)?, min: number(&mut rest)?, max: number(&mut rest)? };
            Some(Self { count, numbers: Some(numbers) })
        };
        read().ok_or_else(|| broken("a tally"))
    }
}

impl Numbers {
    fn add(self, number: Num) -> Result<Self, Reject> {
        Ok(Self {
            sum: sum(self.sum, number)?,
            min: if number < self.min { number } else { self.min },
            max: if number > self.max { number } else { self.max },
        })
    }
}

/// Exact as long as all are integers; otherwise that of doubles, one record after the other.
fn sum(a: Num, b: Num) -> Result<Num, Reject> {
    let sum = match (a, b) {
        (Num::Int(a), Num::Int(b)) => a.checked_add(b).map(Num::Int),
        (a, b) => Some(double(a) + double(b)).filter(|sum| sum.is_finite()).map(Num::Float),
    };
    sum.ok_or_else(|| Reject::new("overflow", "with this record the sum of its window would be too large"))
}

fn double(number: Num) -> f64 {
    match number {
        Num::Int(int) => int as f64,
        Num::Float(float) => float,
    }
}

fn written(number: Num) -> String {
    match number {
        Num::Int(int) => int.to_string(),
        Num::Float(float) => serde_json::Value::from(float).to_string(),
    }
}

/// Take a number off the front.
fn number(bytes: &mut &[u8]) -> Option<Num> {
    let (kind, rest) = bytes.split_first()?;
    let (number, rest) = if *kind == 0 {
        let (int, rest) = rest.split_first_chunk()?;
        (Num::Int(i128::from_le_bytes(*int)), rest)
    } else {
        let (float, rest) = rest.split_first_chunk()?;
        (Num::Float(f64::from_le_bytes(*float)), rest)
    };
    *bytes = rest;
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Function; 4] = [Function::Max, Function::Min, Function::Sum, Function::Count];

    fn tally(numbers: &[&str]) -> Result<Tally, Reject> {
        let mut numbers = numbers.iter().map(|number| Num::read(number));
        let first = Tally::first(numbers.next().flatten());
        numbers.try_fold(first, Tally::add)
    }

    fn check(numbers: &[&str], expect: &str) {
        let tally = tally(numbers).expect("a tally");
        let json = tally.json(Window { start: 0, end: 1 }, &ALL);
        assert_eq!(json, format!(r#"{{"window_start":0,"window_end":1,{expect}}}"#));
        assert_eq!(Tally::decode(&tally.encode()), Ok(tally));
    }

    #[test]
    fn integers_are_exact() {
        check(&["7"], r#""count":1,"sum":7,"min":7,"max":7"#);
        check(
            &["9007199254740993", "-1", "18446744073709551615"],
            r#""count":3,"sum":18455751272964292607,"min":-1,"max":18446744073709551615"#,
        );
    }

    #[test]
    fn one_fraction_makes_the_sum_a_double() {
        check(&["1", "0.5", "2"], r#""count":3,"sum":3.5,"min":0.5,"max":2"#);
        check(&["0.1", "0.2"], r#""count":2,"sum":0.30000000000000004,"min":0.1,"max":0.2"#);
        check(&["1e300", "1"], r#""count":2,"sum":1e+300,"min":1,"max":1e+300"#);
    }

    #[test]
    fn a_number_that_is_not_known_makes_the_results_null() {
        check(&["1", "null"], r#""count":2,"sum":null,"min":null,"max":null"#);
        check(&["null", "1"], r#""count":2,"sum":null,"min":null,"max":null"#);
    }

    #[test]
    fn a_sum_that_is_too_large_is_a_reject() {
        let largest = i128::MAX.to_string();
        assert_eq!(tally(&[&largest, "1"]).map_err(|reject| reject.code), Err("overflow"));
        assert_eq!(tally(&["1.7e308", "1.7e308"]).map_err(|reject| reject.code), Err("overflow"));
        assert!(tally(&[&largest, "-1"]).is_ok());
    }

    #[test]
    fn bytes_that_are_no_tally_are_refused() {
        let whole = tally(&["1", "2.5"]).expect("a tally").encode();
        for length in (0..whole.len()).filter(|length| *length != 8) {
            assert!(Tally::decode(&whole[..length]).is_err(), "{length}");
        }
    }
}
