//! A TCP proxy that counts what passes, so that nobody's own figures have to be believed.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Result;

/// Bytes and requests that passed so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// Bytes from the side that connected.
    pub up: u64,
    /// Bytes back to it.
    pub down: u64,
    /// HTTP/1.1 requests seen on the way up.
    pub requests: u64,
}

impl Count {
    /// What passed between an earlier reading and this one.
    pub fn since(self, earlier: Count) -> Count {
        Count {
            up: self.up - earlier.up,
            down: self.down - earlier.down,
            requests: self.requests - earlier.requests,
        }
    }
}

#[derive(Default)]
struct Counters {
    up: AtomicU64,
    down: AtomicU64,
    requests: AtomicU64,
}

/// A listening proxy; it ends with the program.
pub struct Proxy {
    /// Where to connect to.
    pub address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    counters: Arc<Counters>,
}

impl Proxy {
    /// Listens on a free port of the loopback and passes everything to `target`.
    pub fn start(target: SocketAddr) -> Result<Proxy> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let counters = Arc::new(Counters::default());
        let target = Arc::new(Mutex::new(target));
        let (shared, current) = (counters.clone(), target.clone());
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let target = *current.lock().unwrap_or_else(PoisonError::into_inner);
                let Ok(far) = TcpStream::connect(target) else { continue };
                pass(near, far, &shared);
            }
        });
        Ok(Proxy { address, target, counters })
    }

    /// Passes later connections to another place.
    pub fn retarget(&self, target: SocketAddr) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    /// What passed so far.
    pub fn count(&self) -> Count {
        Count {
            up: self.counters.up.load(Ordering::SeqCst),
            down: self.counters.down.load(Ordering::SeqCst),
            requests: self.counters.requests.load(Ordering::SeqCst),
        }
    }
}

fn pass(near: TcpStream, far: TcpStream, counters: &Arc<Counters>) {
    // Without this a small answer waits for an acknowledgement; a refusal costs time alone.
    near.set_nodelay(true).ok();
    far.set_nodelay(true).ok();
    let (Ok(near_in), Ok(far_in)) = (near.try_clone(), far.try_clone()) else { return };
    let up = counters.clone();
    thread::spawn(move || {
        let mut requests = Requests::default();
        copy(near_in, far, |bytes| {
            up.up.fetch_add(bytes.len() as u64, Ordering::SeqCst);
            up.requests.fetch_add(requests.count(bytes), Ordering::SeqCst);
        });
    });
    let down = counters.clone();
    thread::spawn(move || {
        copy(far_in, near, |bytes| {
            down.down.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        });
    });
}

fn copy(mut from: TcpStream, mut to: TcpStream, mut seen: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        seen(&buffer[..read]);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // The other side may be gone already, which is what is being told.
    to.shutdown(Shutdown::Write).ok();
}

/// Finds request lines in a stream that arrives in pieces.
#[derive(Default)]
struct Requests {
    matched: usize,
}

impl Requests {
    fn count(&mut self, bytes: &[u8]) -> u64 {
        const MARK: &[u8] = b" HTTP/1.1\r\n";
        let mut found = 0;
        for byte in bytes {
            if *byte != MARK[self.matched] {
                self.matched = 0;
            }
            if *byte == MARK[self.matched] {
                self.matched += 1;
            }
            if self.matched == MARK.len() {
                found += 1;
                self.matched = 0;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::Requests;

    #[test]
    fn requests_are_counted_across_pieces() {
        let mut requests = Requests::default();
        let stream = b"POST /a HTTP/1.1\r\nhost: x\r\n\r\nGET /b HTTP/1.1\r\n\r\n";
        let found: u64 = stream.chunks(3).map(|piece| requests.count(piece)).sum();
        assert_eq!(found, 2);
    }
}
