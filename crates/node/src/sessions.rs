//! What a device asks a server about live sessions: which there are, opening and ending one, and
//! what becomes of them.

use std::io::{BufRead, BufReader, Read};

use serde::Deserialize;
use serde_json::json;

use crate::http::{Carry, Http};
use crate::link::LinkError;

/// Longest line of a stream of notices.
const LINE_BYTES_MAX: u64 = 16 << 10;

/// A session that was opened, or was there.
#[derive(Debug, Clone, Deserialize)]
pub struct Opened {
    /// Its name.
    pub id: String,
}

/// A live session.
#[derive(Debug, Clone, Deserialize)]
pub struct Session {
    /// Its name.
    pub id: String,
    /// In which vault.
    pub vault: String,
    /// Of which note.
    pub path: String,
    /// When it began, in milliseconds since 1970.
    pub opened_ms: u64,
    /// Who is there.
    pub people: Vec<Participant>,
}

/// Somebody in a session.
#[derive(Debug, Clone, Deserialize)]
pub struct Participant {
    /// Their id.
    pub user: String,
    /// Their device's.
    pub device: String,
    /// Person and device, in words.
    pub name: String,
}

#[derive(Deserialize)]
struct List {
    sessions: Vec<Session>,
}

/// Opens a session of a note, or finds the one that is live.
///
/// # Errors
/// [`LinkError`]
pub fn open(http: &mut Http, vault: &str, path: &str) -> Result<Opened, LinkError> {
    http.json("POST", "/api/sessions", Some(&json!({ "vault": vault, "path": path })))
}

/// All sessions that the token may see.
///
/// # Errors
/// [`LinkError`]
pub fn list(http: &mut Http) -> Result<Vec<Session>, LinkError> {
    let list: List = http.json("GET", "/api/sessions", None)?;
    Ok(list.sessions)
}

/// Ends a session for everybody, after its last version is stored.
///
/// # Errors
/// [`LinkError`]
pub fn end(http: &mut Http, id: &str) -> Result<(), LinkError> {
    http.send("POST", &format!("/api/sessions/{id}/end"), Carry::Nothing).map(drop)
}

/// What happened to a session.
#[derive(Debug, Clone)]
pub struct Notice {
    /// `opened`, `joined`, `left`, `saved`, `closed`; `missed` where some were left out.
    pub what: String,
    /// To which, unless some were left out.
    pub about: Option<About>,
}

/// Which session a notice is about.
#[derive(Debug, Clone, Deserialize)]
pub struct About {
    /// Its name.
    pub id: String,
    /// Of which note.
    pub path: String,
    /// Who, in words.
    pub name: Option<String>,
}

/// Notices as they come.
pub struct Notices {
    lines: BufReader<Box<dyn Read + Send>>,
    place: String,
}

impl Notices {
    /// Listens from now on.
    ///
    /// # Errors
    /// [`LinkError`]
    pub fn listen(http: &mut Http) -> Result<Self, LinkError> {
        let response = http.listen("/api/sessions/events")?;
        let reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        Ok(Self { lines: BufReader::new(Box::new(reader)), place: http.url().to_owned() })
    }

    /// Waits for the next. `None` when the server ended the stream.
    ///
    /// # Errors
    /// [`LinkError::Unreachable`] when it was cut, or silent for longer than its heartbeat.
    pub fn next_notice(&mut self) -> Result<Option<Notice>, LinkError> {
        let mut what = String::new();
        let mut line = String::new();
        loop {
            line.clear();
            let read = Read::take(&mut self.lines, LINE_BYTES_MAX).read_line(&mut line);
            let read = read.map_err(|error| LinkError::Unreachable {
                place: self.place.clone(),
                reason: error.to_string(),
            })?;
            if read == 0 {
                return Ok(None);
            }
            if let Some(event) = line.strip_prefix("event:") {
                event.trim().clone_into(&mut what);
            }
            if let Some(data) = line.strip_prefix("data:") {
                let about = serde_json::from_str(data.trim()).ok();
                return Ok(Some(Notice { what, about }));
            }
        }
    }
}
