//! The link of a round: what gets lost on it, and what comes in between.

use crucible_core::hash::ContentHash;
use crucible_core::id::VersionId;
use crucible_node::link::{BlobSink, Link, LinkError, OpenBlob, Traffic};

use super::Simulation;
use crate::dice::Dice;
use crate::fake_fs::Power;
use crate::server_link::ServerLink;

/// The link of one round; holds the rest of the world meanwhile.
pub(super) struct Lossy<'s> {
    simulation: &'s mut Simulation,
    inner: ServerLink,
    dice: Dice,
    power: Power,
    on: bool,
    depth: u32,
    /// Whether a request or an answer was lost or came twice, or somebody's round came between.
    pub(super) disturbed: bool,
}

impl<'s> Lossy<'s> {
    pub(super) fn new(
        simulation: &'s mut Simulation,
        power: Power,
        faulty: bool,
        depth: u32,
    ) -> Self {
        let inner = simulation.link.another();
        let dice = simulation.dice.split();
        let on = faulty && simulation.options.network;
        Self { simulation, inner, dice, power, on, depth, disturbed: false }
    }

    fn lost(&mut self, what: &str) -> Result<(), LinkError> {
        let stopped = self.power.is_off();
        if stopped || self.on && self.dice.once_in(8) {
            self.disturbed = true;
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
        self.disturbed |= simulation.devices[who].is_some();
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
            self.disturbed = true;
            self.simulation.say("request twice".to_owned());
            self.inner.round(body)?;
        }
        self.lost("answer")?;
        Ok(answer)
    }

    fn walk(&mut self, body: &[u8]) -> Result<Vec<u8>, LinkError> {
        self.come_between();
        self.lost("walk")?;
        let answer = self.inner.walk(body)?;
        self.lost("answer to a walk")?;
        Ok(answer)
    }

    fn missing_blobs(&mut self, hashes: &[ContentHash]) -> Result<Vec<ContentHash>, LinkError> {
        self.lost("question for blobs")?;
        self.inner.missing_blobs(hashes)
    }

    fn missing_versions(&mut self, versions: &[VersionId]) -> Result<Vec<VersionId>, LinkError> {
        self.lost("question for versions")?;
        self.inner.missing_versions(versions)
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
