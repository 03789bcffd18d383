//! Gathering what a message shows: what must be shown, and more while the message stays small.
//!
//! Showing a level that nobody asked for saves half a request if the difference is in it, so a
//! level is shown whole or not at all, and only while everything shown fits a small budget.

use std::collections::BTreeMap;

use crate::merkle::TreeRead;
use crate::merkle::node::{Entry, Root};
use crate::merkle::read::{Read, child};
use crate::merkle::view::{Area, Finder, View};
use crate::merkle::walk::message::{Content, Item, Position};

/// The items of a message in the making.
pub(super) struct Shown<'t, S> {
    finder: Finder<'t, S>,
    items: BTreeMap<Position, Content>,
    bytes: usize,
}

/// Positions of one level with what is there.
pub(super) type Level = Vec<(Position, View)>;

impl<'t, S: TreeRead> Shown<'t, S> {
    pub(super) fn new(tree: &'t S, root: &'t Root) -> Self {
        Self { finder: Finder::new(tree, root), items: BTreeMap::new(), bytes: 0 }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn view(&self, at: &Position) -> Read<View, S> {
        self.finder.view(&at.area, &at.digits)
    }

    /// Shows `content` at `at`; what is there already stays.
    pub(super) fn put(&mut self, at: Position, content: Content) {
        let item = Item { at, content };
        let bytes = item.encoded_len();
        if let std::collections::btree_map::Entry::Vacant(entry) = self.items.entry(item.at) {
            entry.insert(item.content);
            self.bytes += bytes;
        }
    }

    /// Shows one level after another below `level` while everything fits in `budget`.
    pub(super) fn deepen(&mut self, mut level: Level, budget: usize) -> Read<(), S> {
        while !level.is_empty() {
            let Some((next, items)) = self.next_level(&level, budget)? else { return Ok(()) };
            for Item { at, content } in items {
                self.put(at, content);
            }
            level = next;
        }
        Ok(())
    }

    /// The level below, `None` if it does not fit.
    fn next_level(&self, level: &Level, budget: usize) -> Read<Option<(Level, Vec<Item>)>, S> {
        let (mut next, mut items) = (Vec::new(), Vec::new());
        let mut bytes = self.bytes;
        for (at, view) in level {
            for (at, view) in self.below(at, view)? {
                let item = Item { at: at.clone(), content: Content::from(&view) };
                bytes += item.encoded_len();
                if bytes > budget {
                    return Ok(None);
                }
                items.push(item);
                next.push((at, view));
            }
        }
        Ok(Some((next, items)))
    }

    /// Shows as much of what is below `level` as fits in `budget`, nearest first.
    pub(super) fn fill(&mut self, level: Level, budget: usize, items: usize) -> Read<(), S> {
        let mut queue = std::collections::VecDeque::from(level);
        while let Some((at, view)) = queue.pop_front() {
            for (at, view) in self.below(&at, &view)? {
                if self.bytes >= budget || self.items.len() >= items {
                    return Ok(());
                }
                self.put(at.clone(), Content::from(&view));
                queue.push_back((at, view));
            }
        }
        Ok(())
    }

    fn below(&self, at: &Position, view: &View) -> Read<Level, S> {
        let mut below = Vec::new();
        if let Some(children) = view.branch() {
            for (digit, child) in children.iter().enumerate() {
                let at = at.child(digit);
                if child.is_some() {
                    below.push((at, View::top(self.finder.tree(), *child)?));
                }
            }
        }
        for entry in view.entries().unwrap_or_default() {
            if let Entry::Dir { name, top } = entry {
                let at = Position::top(Area::Folder(Some(child(at.area.folder(), name)?)));
                below.push((at, View::top(self.finder.tree(), Some(*top))?));
            }
        }
        Ok(below)
    }

    pub(super) fn into_items(self) -> Vec<Item> {
        self.items.into_iter().map(|(at, content)| Item { at, content }).collect()
    }
}
