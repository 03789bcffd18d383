//! `delegate_repo!`: a store that is a `VaultDb` and more reads like one.

/// Implements `Repo` and `History` for a type by its field of type `VaultDb`.
macro_rules! delegate_repo {
    ($store:ty, $db:ident) => {
        impl crucible_sync::repo::Repo for $store {
            type Error = crate::error::StoreError;
            fn reading<T>(&self, read: impl FnOnce() -> T) -> T {
                self.$db.reading(read)
            }
            delegate_repo!(@ $db root() -> Option<crucible_core::id::RootHash>);
            delegate_repo!(@ $db seq() -> crucible_sync::repo::Seq);
            delegate_repo!(@ $db version(id: &crucible_core::id::VersionId)
                -> Option<std::sync::Arc<crucible_core::version::Version>>);
            delegate_repo!(@ $db heads(note: &crucible_core::id::NoteId)
                -> Vec<crucible_core::id::VersionId>);
            delegate_repo!(@ $db content(hash: &crucible_core::hash::ContentHash)
                -> Option<std::sync::Arc<[u8]>>);
            delegate_repo!(@ $db pack_place(hash: &crucible_core::hash::ContentHash)
                -> Option<crucible_sync::repo::PackPlace>);
            delegate_repo!(@ $db pack_of(hash: &crucible_core::hash::ContentHash)
                -> Option<(crucible_sync::repo::PackPlace, crucible_sync::repo::Pack)>);
            delegate_repo!(@ $db has_inline(hash: &crucible_core::hash::ContentHash) -> bool);
            delegate_repo!(@ $db has_content(hash: &crucible_core::hash::ContentHash) -> bool);
            delegate_repo!(@ $db node(hash: &crucible_core::id::NodeHash) -> Option<Vec<u8>>);
            delegate_repo!(@ $db seq_of_root(root: &crucible_core::id::RootHash)
                -> Option<crucible_sync::repo::Seq>);
            delegate_repo!(@ $db changed(
                after: crucible_sync::repo::Seq,
                until: crucible_sync::repo::Seq,
                limit: usize
            ) -> Vec<(crucible_sync::repo::Seq, crucible_core::id::NoteId)>);
            delegate_repo!(@ $db newest_at(
                note: &crucible_core::id::NoteId,
                at: crucible_sync::repo::Seq
            ) -> Option<crucible_core::id::VersionId>);
            delegate_repo!(@ $db versions_of(note: &crucible_core::id::NoteId)
                -> Vec<crucible_core::id::VersionId>);
            delegate_repo!(@ $db versions_with_content(
                note: &crucible_core::id::NoteId,
                content: &crucible_core::hash::ContentHash
            ) -> Vec<crucible_core::id::VersionId>);
            delegate_repo!(@ $db versions_by_prefix(prefix: &[u8])
                -> Vec<crucible_core::id::VersionId>);
            delegate_repo!(@ $db counter(replica: &crucible_core::id::ReplicaId) -> u64);
            delegate_repo!(@ $db live_notes() -> u64);
            delegate_repo!(@ $db conflict(id: &crucible_core::id::ConflictId) -> Option<(
                crucible_core::conflict::Conflict,
                crucible_sync::repo::ConflictState
            )>);
            delegate_repo!(@ $db conflicts_after(after: u64, limit: usize)
                -> Vec<crucible_sync::repo::ConflictEvent>);
            delegate_repo!(@ $db open_conflicts(limit: usize)
                -> Vec<crucible_core::conflict::Conflict>);
        }

        impl crate::server_repo::History for $store {
            delegate_repo!(@ $db revisions(query: &crate::server_repo::RevisionQuery)
                -> Vec<crate::server_repo::Revision>);
            delegate_repo!(@ $db revision(id: &crucible_core::id::VersionId)
                -> Option<crate::server_repo::Revision>);
            delegate_repo!(@ $db notes_at(path: &crucible_core::vault_path::VaultPath)
                -> Vec<crucible_core::id::NoteId>);
            delegate_repo!(@ $db deleted(
                before: Option<crucible_sync::repo::Seq>,
                limit: usize
            ) -> Vec<crate::server_repo::Gone>);
        }
    };
    (@ $db:ident $name:ident($($arg:ident: $type:ty),*) -> $out:ty) => {
        fn $name(&self, $($arg: $type),*) -> Result<$out, crate::error::StoreError> {
            self.$db.$name($($arg),*)
        }
    };
}
