//! Before anything else: is this request meant for us, and who made the browser send it?
//!
//! A web page can make a browser talk to `127.0.0.1`, by a name of its own that resolves there
//! or by a plain request to another site. It cannot change `Host` and `Origin`: a server on a
//! loopback address answers only to loopback names, and a page of another site to nobody.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use crate::config::ServerConfig;
use crate::error::{ApiError, Code};
use crate::state::Server;

/// Wraps every request: checks, a span, metrics, and headers that keep browsers careful.
pub async fn guard(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let route = route.unwrap_or("none").to_owned();
    let span = tracing::info_span!(
        "request",
        method = %request.method(),
        route,
        vault = tracing::field::Empty,
        user = tracing::field::Empty,
        device = tracing::field::Empty,
    );
    async {
        let began_ms = server.now_ms();
        let checked = check(server.config(), request.headers());
        let mut response = match checked {
            Ok(()) => next.run(request).await,
            Err(error) => error.into_response(),
        };
        let status = response.status().as_u16();
        server.metrics().request(&route, status);
        let code = response.extensions().get::<Code>().map(|code| code.as_str());
        let ms = server.now_ms().saturating_sub(began_ms);
        tracing::debug!(status, code, ms, "answered");
        let headers = response.headers_mut();
        for (name, value) in [
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        ] {
            headers.entry(name).or_insert(HeaderValue::from_static(value));
        }
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        response
    }
    .instrument(span)
    .await
}

fn check(config: &ServerConfig, headers: &HeaderMap) -> Result<(), ApiError> {
    let host = single(headers, header::HOST)?
        .ok_or_else(|| ApiError::new(Code::BadRequest, "the request has no Host header"))?;
    if !is_ours(config, host) {
        let message = "this server does not answer to that host name";
        return Err(ApiError::new(Code::ForeignHost, message)
            .hint("start it with the name it is reached by (`cru serve --host NAME`)"));
    }
    match single(headers, header::ORIGIN)? {
        None => Ok(()),
        Some(origin) if origin_is(origin, host) => Ok(()),
        Some(_) => {
            let message = "a page of another site may not talk to this server";
            Err(ApiError::new(Code::ForeignOrigin, message))
        }
    }
}

fn single(headers: &HeaderMap, name: header::HeaderName) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(&name).iter();
    let first = values.next().map(|value| value.to_str());
    match (first, values.next()) {
        (None, _) => Ok(None),
        (Some(Ok(text)), None) => Ok(Some(text)),
        _ => Err(ApiError::new(Code::BadRequest, format!("{name} is given twice or garbled"))),
    }
}

fn is_ours(config: &ServerConfig, host: &str) -> bool {
    let (name, _) = split_port(host);
    let configured = || {
        config.hosts.iter().any(|h| h.eq_ignore_ascii_case(host) || h.eq_ignore_ascii_case(name))
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let loopback = match address {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    };
    if loopback || configured() {
        return true;
    }
    // Beyond loopback an address names no page that could have been rebound to us.
    !config.listen.ip().to_canonical().is_loopback() && (config.hosts.is_empty() || address.is_ok())
}

fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => {
            (name, Some(port))
        }
        _ => (host, None),
    }
}

/// Whether an origin is the site this request was sent to; its scheme may be a proxy's.
fn origin_is(origin: &str, host: &str) -> bool {
    match origin.split_once("://") {
        Some(("http" | "https", authority)) => authority.eq_ignore_ascii_case(host),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClientAddress, Limits};

    fn config(listen: &str, hosts: &[&str]) -> ServerConfig {
        ServerConfig {
            url_for_others: None,
            listen: listen.parse().unwrap(),
            tls: None,
            hosts: hosts.iter().map(|&h| h.to_owned()).collect(),
            client_address: ClientAddress::Peer,
            limits: Limits::default(),
        }
    }

    #[test]
    fn a_loopback_server_answers_to_loopback_names_and_those_it_was_given() {
        let config = config("127.0.0.1:80", &["notes.test", "other.test:8443"]);
        for host in [
            "localhost",
            "LocalHost:1",
            "127.0.0.1:9",
            "127.9.9.9",
            "[::1]:80",
            "[::1]",
            "notes.test",
            "Notes.Test:81",
            "other.test:8443",
        ] {
            assert!(is_ours(&config, host), "{host}");
        }
        for host in [
            "evil.test",
            "127.0.0.1.evil.test",
            "localhost.evil.test:80",
            "192.168.1.2",
            "other.test",
            "",
            "::1:evil",
            "localhost:80:evil",
        ] {
            assert!(!is_ours(&config, host), "{host}");
        }
    }

    #[test]
    fn an_open_server_answers_to_its_names_if_it_was_given_any() {
        assert!(is_ours(&config("0.0.0.0:80", &[]), "whatever.test"));
        let named = config("0.0.0.0:80", &["notes.test"]);
        assert!(is_ours(&named, "notes.test") && is_ours(&named, "192.168.1.2:80"));
        assert!(!is_ours(&named, "whatever.test"));
    }

    #[test]
    fn only_our_own_pages_may_ask() {
        for (origin, host, ours) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080", true),
            ("https://Notes.test", "notes.test", true),
            ("http://127.0.0.1:9999", "127.0.0.1:8080", false),
            ("https://evil.test", "127.0.0.1:8080", false),
            ("null", "127.0.0.1:8080", false),
            ("file://127.0.0.1:8080", "127.0.0.1:8080", false),
        ] {
            assert_eq!(origin_is(origin, host), ours, "{origin} at {host}");
        }
    }
}
