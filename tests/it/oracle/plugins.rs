//! What plugins without state do, as their documentation says.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Content, Output};

/// Why a stage cannot handle a record.
#[derive(Debug)]
pub(super) struct Bad {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) tries: u32,
}

impl Bad {
    pub(super) fn rejected(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), tries: 1 }
    }
}

/// Only what the tests use: any other key of a configuration would make the oracle wrong in silence.
pub(super) fn known(config: &Value, keys: &[&str]) {
    let config = config.as_object().expect("a configuration");
    assert!(config.keys().all(|key| keys.contains(&key.as_str())), "the oracle does not know all of {config:?}");
}

pub(super) fn field<'a>(document: &'a Value, config: &Value, key: &str) -> Option<&'a Value> {
    document.pointer(config[key].as_str()?)
}

pub(super) fn document(content: &Content) -> Option<Value> {
    content.value.as_ref().map(|value| serde_json::from_slice(value).expect("a JSON value"))
}

pub(super) fn keeps(config: &Value, content: &Content) -> Result<bool, Bad> {
    known(config, &["pointer", "at_least", "missing"]);
    match document(content).as_ref().and_then(|document| field(document, config, "pointer")) {
        Some(field) => Ok(field.as_u64() >= config["at_least"].as_u64()),
        None if config["missing"] == "reject" => {
            Err(Bad::rejected("missing", format!("the value has no field {}", config["pointer"])))
        }
        None => Ok(config["missing"] == "keep"),
    }
}

pub(super) fn redact(config: &Value, mut output: Output) -> Output {
    known(config, &["pointers", "keep_last", "mask"]);
    assert_eq!(config["pointers"], serde_json::json!(["/card"]), "the oracle masks cards");
    let Some(document) = document(&output.content) else { return output };
    let Some(card) = document["card"].as_str() else { return output };
    let mask = config["mask"].as_str().unwrap_or("*");
    let keep = config["keep_last"].as_u64().unwrap_or(0) as usize;
    let hidden = if card.len() <= keep { card.len() } else { card.len() - keep };
    let masked = format!("\"card\":\"{}{}\"", mask.repeat(hidden), &card[hidden..]);
    let text = String::from_utf8(output.content.value.take().expect("a value")).expect("text");
    // The generator writes the card of the record itself first, before any other object.
    output.content.value = Some(text.replacen(&format!("\"card\":\"{card}\""), &masked, 1).into_bytes());
    output
}

pub(super) fn route(config: &Value, mut output: Output) -> Output {
    known(config, &["pointer", "routes", "default", "partition_by"]);
    let document = document(&output.content);
    let text = |key| document.as_ref().and_then(|document| field(document, config, key)).and_then(Value::as_str);
    let topic = text("pointer").and_then(|text| config["routes"][text].as_str()).or(config["default"].as_str());
    output.topic = topic.map(str::to_owned).or(output.topic);
    output.partition_key = text("partition_by").map(|text| text.as_bytes().to_vec()).or(output.partition_key);
    output
}

pub(super) fn explode(config: &Value, output: Output) -> Vec<Output> {
    #[derive(Deserialize)]
    struct Lines<'a> {
        #[serde(borrow)]
        lines: Vec<&'a RawValue>,
    }
    known(config, &["pointer", "key_from"]);
    assert_eq!(config["pointer"], "/lines", "the oracle explodes lines");
    let Some(value) = &output.content.value else { return vec![output] };
    let lines: Lines<'_> = serde_json::from_slice(value).expect("a value with lines");
    let explode = |line: &&RawValue| {
        let mut made = output.clone();
        made.content.value = Some(line.get().as_bytes().to_vec());
        let element: Value = serde_json::from_str(line.get()).expect("an element");
        if let Some(key) = field(&element, config, "key_from").and_then(Value::as_str) {
            made.content.key = Some(key.as_bytes().to_vec());
        }
        made
    };
    lines.lines.iter().map(explode).collect()
}
