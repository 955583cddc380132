use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn text(text: &str) -> String {
    Json::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).to_string()
}

#[test]
fn a_number_keeps_its_digits_and_is_written_as_before_where_that_says_the_same() {
    for (written, kept) in [
        ("0", "0"),
        ("-0", "-0.0"),
        ("-0.0", "-0.0"),
        ("1", "1"),
        ("1.0", "1.0"),
        ("1.50", "1.5"),
        ("1e2", "100.0"),
        ("100E-2", "1.0"),
        ("0.1", "0.1"),
        ("0e99999999999999999999", "0.0"),
        ("18446744073709551615", "18446744073709551615"),
        ("18446744073709551616", "18446744073709551616"),
        ("18446744073709551617", "18446744073709551617"),
        ("-9223372036854775809", "-9223372036854775809"),
        ("170141183460469231731687303715884105727", "170141183460469231731687303715884105727"),
        ("170141183460469231731687303715884105729", "170141183460469231731687303715884105729"),
        ("9007199254740993.0", "9007199254740993.0"),
        ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        ("3.14159265358979323846", "3.14159265358979323846"),
        ("1e400", "1e400"),
        ("-1E+400", "-1E+400"),
        ("1e-400", "1e-400"),
        ("1e99999999999999999999", "1e99999999999999999999"),
    ] {
        assert_eq!(text(written), kept, "{written}");
        assert_eq!(text(kept), kept, "{written} again");
        assert_eq!(JsonNumber::parse(written).expect(written).as_str(), kept);
    }
    for wrong in ["", "-", "+1", "01", "1.", ".5", "1e", "0x1", "NaN", "1 ", " 1", "1 2", "\"1\"", "[1]", "1_0"] {
        assert!(JsonNumber::parse(wrong).is_none(), "{wrong}");
    }
}

#[test]
fn a_value_has_one_text() {
    let written = " { \"b\" : [ 1e2 , null , \"\\u00e9\\n\" ] , \"a\" : { \"\\u0062\" : true , \"\" : {} } } ";
    assert_eq!(text(written), "{\"a\":{\"\":{},\"b\":true},\"b\":[100.0,null,\"é\\n\"]}");
}

#[test]
fn a_name_that_is_there_twice_is_refused_wherever_it_is() {
    let refused = Json::parse(r#"{"a":1,"b":[{"c d":1,"c d":2}],"a":{"x":0,"\u0078":0}}"#).expect_err("twice");
    assert_eq!(refused, NotJson::Twice(vec!["$.b[0].\"c d\"".to_owned(), "$.a.x".to_owned(), "$.a".to_owned()]));
    assert_eq!(refused.to_string(), "a key is there twice: $.b[0].\"c d\", $.a.x, $.a");
    assert!(serde_json::from_str::<Json>(r#"{"a":1,"a":2}"#).is_err());
}

/// A long name above many members, or many levels of them, would be copied for each.
#[test]
fn what_is_said_of_names_that_are_there_twice_is_short() {
    let members = vec!["\"a\":0"; 10_000].join(",");
    let long = format!("{{\"{}\":{{{members}}}}}", "k".repeat(100_000));
    let deep = (0..DEPTH_MAX - 1)
        .fold(format!("{{{members}}}"), |inner, _| format!("{{\"{}\":{inner}}}", "\\u0001".repeat(300)));
    for text in [long, deep] {
        let Err(NotJson::Twice(paths)) = Json::parse(&text) else { panic!("no name is there twice") };
        assert_eq!(paths.len(), TWICE_MAX);
        let longest = paths.iter().map(String::len).max();
        assert!(longest.is_some_and(|bytes| bytes <= PATH_BYTES_MAX), "{longest:?}");
    }
}

#[test]
fn what_is_not_json_is_refused() {
    for wrong in
        ["", " ", "{", "[1,]", "{\"a\":1,}", "01", "nul", "1 2", "'a'", "\"\\ud800\"", "{\"\\ud800\":1}", "NaN"]
    {
        assert!(matches!(Json::parse(wrong), Err(NotJson::Syntax(_))), "{wrong}");
    }
}

#[test]
fn nesting_has_a_limit_and_no_depth_overflows_the_stack() {
    for (depth, is_fine) in [(DEPTH_MAX, true), (DEPTH_MAX + 1, false), (10_000, false)] {
        let array = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(Json::parse(&array).is_ok(), is_fine, "{depth}");
        let object = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert_eq!(Json::parse(&object).is_ok(), is_fine, "{depth}");
    }
}

#[test]
fn a_patch_changes_what_it_names() {
    let apply = |object: Value, patch: Value| {
        let (Json::Object(mut object), Json::Object(patch)) = (object.into(), patch.into()) else {
            unreachable!("objects")
        };
        merge(&mut object, &patch);
        Json::Object(object)
    };
    // The examples of RFC 7396 that are objects.
    for (object, patch, expected) in [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ] {
        assert_eq!(apply(object, patch), Json::from(expected));
    }
}

/// Any value that `serde_json` can hold.
fn ordinary() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-1e6..1e6).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Any value, with numbers of any size and length, odd texts and nulls.
pub(crate) fn any_json() -> impl Strategy<Value = Json> {
    let number = "-?(0|[1-9][0-9]{0,60})(\\.[0-9]{1,60})?([eE][+-]?[0-9]{1,4})?";
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        any::<String>().prop_map(Json::String),
        number.prop_map(|text| Json::Number(JsonNumber::parse(&text).expect("a number"))),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::Array),
            prop::collection::btree_map(any::<String>(), inner, 0..6).prop_map(Json::Object),
        ]
    })
}

proptest! {
    /// So the digests of all revisions that are stored stay what they are.
    #[test]
    fn what_serde_json_can_hold_is_written_as_serde_json_writes_it(value in ordinary()) {
        let written = value.to_string();
        prop_assert_eq!(Json::parse(&written).expect("JSON").to_string(), written);
    }

    #[test]
    fn what_is_written_is_read_again(value in any_json()) {
        let written = value.to_string();
        prop_assert_eq!(&Json::parse(&written).expect("JSON"), &value);
        prop_assert_eq!(&serde_json::from_str::<Json>(&written).expect("JSON"), &value);
        let within = format!("[{written}]");
        prop_assert_eq!(serde_json::from_str::<Vec<Json>>(&within).expect("JSON"), [value]);
    }
}
