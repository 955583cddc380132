//! What the demo asks of the daemon.

use std::time::Duration;

use serde_json::Value;
use ureq::Agent;

use crate::plugins::Result;

/// A daemon on loopback.
pub(super) struct Client {
    agent: Agent,
    port: u16,
}

impl Client {
    pub(super) fn new(port: u16) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(60)))
            .http_status_as_error(false)
            .proxy(None)
            .build();
        Self { agent: config.into(), port }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn is_ready(&self) -> bool {
        let answer = self.agent.get(self.url("/readyz")).call();
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    pub(super) fn get(&self, path: &str) -> Result<Value> {
        read(self.agent.get(self.url(path)).call())
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        if body.is_null() {
            return read(self.agent.post(self.url(path)).send_empty());
        }
        read(self.agent.post(self.url(path)).send_json(body))
    }

    pub(super) fn post_lines(&self, path: &str, lines: &str) -> Result<Value> {
        read(self.agent.post(self.url(path)).content_type("application/x-ndjson").send(lines))
    }

    pub(super) fn publish(&self, link: &str, stage: &str, component: &[u8], config: &Value) -> Result<Value> {
        let url = self.url(&format!("/replication/links/{link}/stages/{stage}/revisions"));
        let request = self.agent.post(url).query("by", "demo").query("config", config.to_string());
        read(request.content_type("application/wasm").send(component))
    }

    /// How many source records are over, as the checkpoints say.
    pub(super) fn progress(&self) -> Result<u64> {
        let metrics = self.get("/replication/links/orders/metrics")?;
        let partitions = metrics["partition_metrics"].as_object().into_iter().flat_map(|map| map.values());
        Ok(partitions.filter_map(|partition| partition["target_offset"].as_u64()).sum())
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/api/v1{path}", self.port)
    }
}

fn read(answer: std::result::Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value> {
    let mut answer = answer.map_err(|error| format!("the daemon does not answer: {error}"))?;
    let status = answer.status();
    let body = answer.body_mut().with_config().limit(1 << 30).read_to_string().map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("the daemon answers {status}: {body}"));
    }
    serde_json::from_str(&body).map_err(|error| format!("the daemon's answer is not JSON: {error}"))
}
