//! The link of a round: what gets lost on it, and what comes in between.

use crucible_core::hash::ContentHash;
use crucible_node::link::{BlobSink, Link, LinkError, OpenBlob, Traffic};

use super::Simulation;
use crate::dice::Dice;
use crate::server_link::ServerLink;

/// The link of one round; holds the rest of the world meanwhile.
pub(super) struct Lossy<'s> {
    simulation: &'s mut Simulation,
    inner: ServerLink,
    dice: Dice,
    on: bool,
    depth: u32,
}

impl<'s> Lossy<'s> {
    pub(super) fn new(simulation: &'s mut Simulation, faulty: bool, depth: u32) -> Self {
        let inner = simulation.link.another();
        let dice = simulation.dice.split();
        let on = faulty && simulation.options.network;
        Self { simulation, inner, dice, on, depth }
    }

    fn lost(&mut self, what: &str) -> Result<(), LinkError> {
        if self.on && self.dice.once_in(8) {
            self.simulation.say(format!("{what} lost"));
            return Err(LinkError::Unreachable {
                place: "the server".to_owned(),
                reason: "lost".to_owned(),
            });
        }
        Ok(())
    }

    /// Somebody else's round falls before this request.
    fn come_between(&mut self) {
        let simulation = &mut *self.simulation;
        let wanted = simulation.options.interleaved && !simulation.healing && self.depth < 2;
        if !wanted || !self.dice.once_in(4) {
            return;
        }
        let who = self.dice.below(simulation.devices.len());
        if simulation.devices[who].is_some()
            && let Err(what) = simulation.round(who, self.depth + 1)
        {
            simulation.broken.get_or_insert(what);
        }
    }
}

impl Link for Lossy<'_> {
    fn round(&mut self, body: &[u8]) -> Result<Vec<u8>, LinkError> {
        self.come_between();
        self.lost("request")?;
        let answer = self.inner.round(body)?;
        if self.on && self.dice.once_in(10) {
            self.simulation.say("request twice".to_owned());
            self.inner.round(body)?;
        }
        self.lost("answer")?;
        Ok(answer)
    }

    fn walk(&mut self, body: &[u8]) -> Result<Vec<u8>, LinkError> {
        self.come_between();
        self.lost("walk")?;
        self.inner.walk(body)
    }

    fn missing_blobs(&mut self, hashes: &[ContentHash]) -> Result<Vec<ContentHash>, LinkError> {
        self.inner.missing_blobs(hashes)
    }

    fn put_blob(
        &mut self,
        hash: &ContentHash,
        bytes: u64,
        open: OpenBlob<'_>,
    ) -> Result<(), LinkError> {
        self.lost("blob")?;
        self.inner.put_blob(hash, bytes, open)
    }

    fn get_blob(
        &mut self,
        hash: &ContentHash,
        offset: u64,
        sink: BlobSink<'_>,
    ) -> Result<(), LinkError> {
        self.lost("blob")?;
        self.inner.get_blob(hash, offset, sink)
    }

    fn traffic(&self) -> Traffic {
        self.inner.traffic()
    }
}
