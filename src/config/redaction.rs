//! What a definition holds that not everybody who may look at it may know.

use super::failover::redacted;
use crate::model::{Json, JsonObject};

/// Where it stands.
const PLACE: [&str; 2] = ["failover_config", "notification_webhook"];

/// A definition as it is shown: with the scheme and the host of a webhook's address, and no more of it.
pub fn redact(mut definition: JsonObject) -> JsonObject {
    if let Some(Json::String(address)) = secret_part(&mut definition) {
        *address = redacted(address);
    }
    definition
}

/// A change as it was meant: whoever sends back what was shown to them leaves what is hidden as it is.
pub fn restore(mut patch: JsonObject, before: &JsonObject) -> JsonObject {
    let [outer, inner] = PLACE;
    let known = before.get(outer).and_then(|outer| outer.get(inner)).and_then(Json::as_str);
    if let (Some(Json::String(address)), Some(known)) = (secret_part(&mut patch), known)
        && *address == redacted(known)
    {
        known.clone_into(address);
    }
    patch
}

fn secret_part(definition: &mut JsonObject) -> Option<&mut Json> {
    let [outer, inner] = PLACE;
    definition.get_mut(outer)?.get_mut(inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: serde_json::Value) -> JsonObject {
        let Json::Object(object) = Json::from(value) else { unreachable!("an object") };
        object
    }

    fn with(address: &str) -> JsonObject {
        object(json!({"id": "l", "failover_config": {"notification_webhook": address}}))
    }

    #[test]
    fn the_address_of_a_webhook_is_shown_without_its_key() {
        for (written, shown) in [
            ("https://hooks.slack.com/services/T0/B0/KEY", "https://hooks.slack.com/***"),
            ("http://10.0.0.1:8080?key=KEY", "http://10.0.0.1/***"),
            ("${file:webhook.url}", "${file:webhook.url}"),
            ("no address KEY", "/***"),
        ] {
            assert_eq!(redact(with(written)), with(shown));
            assert_eq!(restore(with(shown), &with(written)), with(written), "sent back as it was shown");
            assert_eq!(
                restore(with("https://other.example.com/x"), &with(written)),
                with("https://other.example.com/x")
            );
        }
        let bare = object(json!({"id": "l"}));
        assert_eq!(redact(bare.clone()), bare);
        assert_eq!(restore(bare.clone(), &with("https://a/b")), bare);
        assert_eq!(restore(with("https://a/***"), &bare), with("https://a/***"));
        let taken_out = object(json!({"failover_config": null}));
        assert_eq!(restore(taken_out.clone(), &with("https://a/b")), taken_out);
    }
}
