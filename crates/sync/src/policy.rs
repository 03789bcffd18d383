//! What overlapping edits come to below which paths; first match wins.

use crucible_core::text_merge::Overlap;
use crucible_core::vault_path::VaultPath;
use crucible_proto::message::PolicyRule;
use globset::{GlobBuilder, GlobMatcher};

/// A replica's policies, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct Policies(Vec<(GlobMatcher, Overlap)>);

impl Policies {
    /// Reads the rules.
    ///
    /// # Errors
    /// The first glob that is none.
    pub fn new(rules: &[PolicyRule]) -> Result<Self, String> {
        let compile = |rule: &PolicyRule| {
            let glob = GlobBuilder::new(&rule.glob).literal_separator(true).build();
            let overlap = if rule.keep_both { Overlap::Both } else { Overlap::Lww };
            glob.map(|glob| (glob.compile_matcher(), overlap)).map_err(|_| rule.glob.clone())
        };
        rules.iter().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// What an overlap in this note comes to.
    pub fn overlap(&self, path: &VaultPath) -> Overlap {
        let rule = self.0.iter().find(|(glob, _)| glob.is_match(path.as_str()));
        rule.map_or(Overlap::Lww, |(_, overlap)| *overlap)
    }
}
