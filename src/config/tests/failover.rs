//! When a link fails over, and who is told.

use std::time::Duration;

use super::{CLUSTERS, check_with_clusters, config};

fn link(more: &str) -> String {
    format!("[links.l]\nsource = 'east'\ntarget = 'west'\ntopics = ['t']\n{more}\n")
}

#[test]
fn what_is_not_said_is_as_it_is_documented() {
    let failover = config(&(link("") + CLUSTERS)).links["l"].failover.clone();
    assert_eq!((failover.enabled, failover.auto_failback, failover.webhook.is_none()), (false, false, true));
    assert_eq!((failover.lag_records_max, failover.consecutive_failures_max), (100_000, 3));
    assert_eq!((failover.timeout, failover.drain_timeout), (Duration::from_secs(60), Duration::from_secs(30)));
    let text = "failover_config = { enabled = true, failover_threshold = 5, failover_timeout_ms = 2000, max_consecutive_failures = 7, \
                auto_failback = true, drain_timeout = '0s', notification_webhook = 'https://alerts.example.com/failover' }";
    let failover = config(&(link(text) + CLUSTERS)).links["l"].failover.clone();
    assert_eq!((failover.enabled, failover.auto_failback, failover.lag_records_max), (true, true, 5));
    assert_eq!((failover.timeout, failover.drain_timeout), (Duration::from_secs(2), Duration::ZERO));
    let webhook = failover.webhook.expect("a webhook");
    assert_eq!(
        (webhook.address().expect("an address").to_string(), webhook.allows_private),
        ("https://alerts.example.com/failover".into(), false)
    );
}

#[test]
fn what_cannot_be_is_refused() {
    check_with_clusters(
        &link("failover_config = { failover_timeout_ms = 5, notification_secret = 'x' }"),
        &[
            "5:43 error links.l.failover_config.failover_timeout_ms: 5 is out of range: write a number from 1000 to 86400000",
            "5:68 error links.l.failover_config.notification_secret: nobody is to be told | write notification_webhook = \"https://…\"",
        ],
    );
    for (url, message) in [
        ("alerts", "write the address as https://HOST/PATH"),
        ("ftp://alerts/x", "write the address as https://HOST/PATH"),
        ("https:///x", "write the address as https://HOST/PATH"),
        (
            "https://user:hidden@alerts/x",
            "no password stands in an address: the message is signed with notification_secret",
        ),
    ] {
        check_with_clusters(
            &link(&format!("failover_config = {{ notification_webhook = '{url}' }}")),
            &[&format!("5:44 error links.l.failover_config.notification_webhook: {message}")],
        );
    }
}
