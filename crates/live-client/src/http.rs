//! The requests a page makes before it has a session: one connection each.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON, after a status of 200 to 299.
    ///
    /// # Errors
    /// Another status, with what the server said; a body that is no JSON.
    pub fn json(&self) -> Result<Value> {
        let text = String::from_utf8_lossy(&self.body);
        ensure!((200..300).contains(&self.status), "status {}: {text}", self.status);
        serde_json::from_slice(&self.body).with_context(|| format!("no JSON: {text}"))
    }
}

/// Somebody with a token.
#[derive(Debug, Clone)]
pub struct Account {
    /// Where the server is.
    pub address: SocketAddr,
    /// The token.
    pub token: String,
}

/// A live session, as the server names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its name.
    pub id: String,
    /// Its document's epoch.
    pub epoch: String,
}

impl Account {
    /// Gets a token by a pairing code, as the page does.
    ///
    /// # Errors
    /// The server refuses it or is not there.
    pub async fn pair(address: SocketAddr, code: &str, device: &str) -> Result<Self> {
        let body = json!({ "code": code, "device": device, "name": "load" });
        let answer = ask(address, "POST", "/api/auth/pair", None, Some(&body)).await?.json()?;
        let token = answer["token"].as_str().context("no token")?.to_owned();
        Ok(Self { address, token })
    }

    /// One request.
    ///
    /// # Errors
    /// The server is not there, or ended before it answered.
    pub async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        ask(self.address, method, path, Some(&self.token), body).await
    }

    /// Opens the session of a note, or finds it.
    ///
    /// # Errors
    /// The server refuses it or is not there.
    pub async fn open(&self, vault: &str, path: &str) -> Result<Session> {
        let body = json!({ "vault": vault, "path": path });
        let answer = self.ask("POST", "/api/sessions", Some(&body)).await?.json()?;
        let field =
            |name: &str| Ok::<_, anyhow::Error>(answer[name].as_str().context("field")?.to_owned());
        Ok(Session { id: field("id")?, epoch: field("epoch")? })
    }

    /// The text of a session.
    ///
    /// # Errors
    /// There is none, or the server is not there.
    pub async fn text(&self, session: &str) -> Result<String> {
        let answer = self.ask("GET", &format!("/api/sessions/{session}/text"), None).await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        ensure!(answer.status == 200, "status {}: {text}", answer.status);
        Ok(text)
    }
}

async fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<&Value>,
) -> Result<Answer> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\n{token}connection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len(),
    );
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no answer")?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let body = answer[end + 4..].to_vec();
    ensure!(length.is_none_or(|length: usize| length == body.len()), "the answer was cut");
    Ok(Answer { status: status.context("no status")?, body })
}
