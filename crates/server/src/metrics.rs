//! `/metrics`: counters in the text format of Prometheus. A registry of a dozen names needs no
//! library; labels are matched routes and statuses, so their number is bounded.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Upper bounds of the buckets of durations, in milliseconds.
const BUCKETS_MS: [u64; 10] = [1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000];

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Raises it.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number of things that are there now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

/// One of the things a [`Gauge`] counts, for as long as it lives.
pub struct Present<'a>(&'a Gauge);

impl Gauge {
    /// Counts one until the returned value is dropped.
    pub fn enter(&self) -> Present<'_> {
        self.0.fetch_add(1, Relaxed);
        Present(self)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// How long things took.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [Counter; BUCKETS_MS.len()],
    count: Counter,
    sum_ms: Counter,
}

impl Durations {
    /// Adds one.
    pub fn observe(&self, ms: u64) {
        for (bucket, bound) in self.buckets.iter().zip(BUCKETS_MS) {
            if ms <= bound {
                bucket.add(1);
            }
        }
        self.count.add(1);
        self.sum_ms.add(ms);
    }
}

/// Everything a server counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Rounds answered.
    pub rounds: Counter,
    /// How long they took, waiting for the vault included.
    pub round_ms: Durations,
    /// Versions stored by rounds.
    pub pushed: Counter,
    /// Versions sent by rounds.
    pub pulled: Counter,
    /// Merge versions made.
    pub merged: Counter,
    /// Conflict records opened.
    pub conflicts: Counter,
    /// Bytes of rounds received.
    pub round_bytes_in: Counter,
    /// Bytes of rounds sent.
    pub round_bytes_out: Counter,
    /// Bytes of blobs received.
    pub blob_bytes_in: Counter,
    /// Bytes of blobs sent.
    pub blob_bytes_out: Counter,
    /// Requests refused because there were too many.
    pub rate_limited: Counter,
    /// Tokens refused.
    pub tokens_refused: Counter,
    /// Pairing codes refused.
    pub codes_refused: Counter,
    /// Devices paired.
    pub paired: Counter,
    /// Connections open.
    pub connections: Gauge,
    /// Streams of events open.
    pub streams: Gauge,
    /// Live sessions.
    pub sessions: Gauge,
    /// WebSockets into sessions.
    pub session_sockets: Gauge,
    /// Turns of sessions: transactions that made edits durable.
    pub session_turns: Counter,
    /// Updates of sessions that were taken.
    pub session_updates: Counter,
    /// Versions made of sessions.
    pub session_saves: Counter,
    /// Versions that could not be made.
    pub session_saves_failed: Counter,
    /// Connections that a room ended for what they sent or did not take.
    pub session_evictions: Counter,
    /// Questions tried alone, after the process with the documents ended over them or others.
    pub document_trials: Counter,
    requests: Mutex<BTreeMap<(String, u16), u64>>,
}

impl Metrics {
    /// Counts a request by the route it matched and its status.
    pub fn request(&self, route: &str, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route.to_owned(), status)).or_default() += 1;
    }

    /// The text format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for (name, help, counter) in [
            ("rounds_total", "Rounds answered.", &self.rounds),
            ("versions_pushed_total", "Versions stored by rounds.", &self.pushed),
            ("versions_pulled_total", "Versions sent by rounds.", &self.pulled),
            ("merges_total", "Merge versions made.", &self.merged),
            ("conflicts_total", "Conflict records opened.", &self.conflicts),
            ("round_bytes_in_total", "Bytes of rounds received.", &self.round_bytes_in),
            ("round_bytes_out_total", "Bytes of rounds sent.", &self.round_bytes_out),
            ("blob_bytes_in_total", "Bytes of blobs received.", &self.blob_bytes_in),
            ("blob_bytes_out_total", "Bytes of blobs sent.", &self.blob_bytes_out),
            ("rate_limited_total", "Requests refused for their number.", &self.rate_limited),
            ("tokens_refused_total", "Tokens refused.", &self.tokens_refused),
            ("codes_refused_total", "Pairing codes refused.", &self.codes_refused),
            ("paired_total", "Devices paired.", &self.paired),
            ("session_turns_total", "Turns of live sessions made durable.", &self.session_turns),
            ("session_updates_total", "Updates taken by live sessions.", &self.session_updates),
            ("session_saves_total", "Versions made of live sessions.", &self.session_saves),
            (
                "session_saves_failed_total",
                "Versions of live sessions that could not be made.",
                &self.session_saves_failed,
            ),
            (
                "session_evictions_total",
                "Connections ended for what they sent or did not take.",
                &self.session_evictions,
            ),
            (
                "document_trials_total",
                "Questions of live sessions tried alone after their process ended.",
                &self.document_trials,
            ),
        ] {
            head(&mut out, name, "counter", help);
            line(&mut out, format_args!("crucible_{name} {}", counter.get()));
        }
        for (name, help, gauge) in [
            ("connections", "Connections open.", &self.connections),
            ("event_streams", "Streams of events open.", &self.streams),
            ("sessions", "Live sessions.", &self.sessions),
            ("session_sockets", "WebSockets into live sessions.", &self.session_sockets),
        ] {
            head(&mut out, name, "gauge", help);
            line(&mut out, format_args!("crucible_{name} {}", gauge.0.load(Relaxed)));
        }
        self.render_durations(&mut out);
        head(&mut out, "requests_total", "counter", "Requests by route and status.");
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for ((route, status), count) in &*requests {
            let labels = format!("route=\"{route}\",status=\"{status}\"");
            line(&mut out, format_args!("crucible_requests_total{{{labels}}} {count}"));
        }
        out
    }

    fn render_durations(&self, out: &mut String) {
        let name = "round_duration_seconds";
        head(out, name, "histogram", "How long rounds took.");
        for (bucket, bound) in self.round_ms.buckets.iter().zip(BUCKETS_MS) {
            let le = seconds(bound);
            let count = bucket.get();
            line(out, format_args!("crucible_{name}_bucket{{le=\"{le}\"}} {count}"));
        }
        let (count, sum) = (self.round_ms.count.get(), seconds(self.round_ms.sum_ms.get()));
        line(out, format_args!("crucible_{name}_bucket{{le=\"+Inf\"}} {count}"));
        line(out, format_args!("crucible_{name}_sum {sum}"));
        line(out, format_args!("crucible_{name}_count {count}"));
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    line(out, format_args!("# HELP crucible_{name} {help}\n# TYPE crucible_{name} {kind}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a String cannot fail");
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_shown() {
        let metrics = Metrics::default();
        metrics.rounds.add(2);
        metrics.round_ms.observe(4);
        metrics.round_ms.observe(2_000);
        metrics.request("/api/sync/{vault}", 200);
        metrics.request("/api/sync/{vault}", 200);
        let open = metrics.connections.enter();
        let text = metrics.render();
        drop(open);
        for expected in [
            "crucible_rounds_total 2\n",
            "crucible_round_duration_seconds_bucket{le=\"0.003\"} 0\n",
            "crucible_round_duration_seconds_bucket{le=\"0.01\"} 1\n",
            "crucible_round_duration_seconds_bucket{le=\"+Inf\"} 2\n",
            "crucible_round_duration_seconds_sum 2.004\n",
            "crucible_requests_total{route=\"/api/sync/{vault}\",status=\"200\"} 2\n",
            "crucible_connections 1\n",
        ] {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
        assert!(metrics.render().contains("crucible_connections 0\n"));
    }
}
